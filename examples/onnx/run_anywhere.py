"""Runs a model that `bitc export` wrote, with nothing of bitc installed.

    python run_anywhere.py model.onnx [x.npy] [expected.npy]

Checks the file with onnx.checker, runs it in onnxruntime and in the ONNX reference evaluator, and prints how far the two
are apart, and how far from what was expected. Needs numpy, onnx and onnxruntime.
"""

import sys

import numpy as np
import onnx
import onnx.checker
import onnx.reference
import onnxruntime

TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(bool)": np.bool_}


def inputs_for(session, path):
    """The array of a file for the first input, random numbers for the others."""
    rng = np.random.default_rng(0)
    arrays = {}
    for position, port in enumerate(session.get_inputs()):
        if position == 0 and path:
            arrays[port.name] = np.load(path)
            continue
        shape = [d if isinstance(d, int) else 4 for d in port.shape]
        kind = TYPES.get(port.type, np.int64)
        values = rng.standard_normal(shape)
        arrays[port.name] = (values > 0).astype(kind) if kind is np.bool_ else values.astype(kind)
    return arrays


def main(model_path, input_path=None, expected_path=None):
    model = onnx.load(model_path)
    onnx.checker.check_model(model_path, full_check=True)
    operators = sorted({f"{n.domain or 'onnx'}.{n.op_type}" for n in model.graph.node})
    print("checked:", ", ".join(operators))
    session = onnxruntime.InferenceSession(model_path)
    arrays = inputs_for(session, input_path)
    outputs = session.run(None, arrays)
    for port, values in zip(session.get_outputs(), outputs):
        print(f"onnxruntime: {port.name} {values.dtype}{list(values.shape)} {values.ravel()[:4]} ..")
    try:
        reference = onnx.reference.ReferenceEvaluator(model).run(None, arrays)
    except RuntimeError as error:
        print("reference evaluator: cannot run it:", str(error).splitlines()[0])
        reference = []
    for port, a, b in zip(session.get_outputs(), outputs, reference):
        print(f"reference evaluator: {port.name} differs by {np.abs(a.astype(np.float64) - b).max():.3e}")
    if expected_path:
        expected = np.load(expected_path)
        difference = np.abs(outputs[0].astype(np.float64) - expected).max()
        print(f"expected: differs by {difference:.3e}")


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
