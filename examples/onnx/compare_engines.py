"""Times an f32 model of one input on bitc, tract and onnxruntime, one thread, in one run.

    compare_engines.py BITC MODEL.onnx [--runs N]

Needs `pip install numpy onnxruntime tract`. Engines take turns, so that a busy machine slows all of them; printed are the
smallest and the median processor time of a run, and the outputs' largest difference from onnxruntime's.
"""

import argparse, json, os, statistics, subprocess, sys, tempfile, time

for variable in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
import numpy as np, onnxruntime, tract


def timed(run):
    begun = time.process_time()
    run()
    return (time.process_time() - begun) * 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bitc")
    parser.add_argument("model")
    parser.add_argument("--runs", type=int, default=10)
    args = parser.parse_args()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(args.model, options, providers=["CPUExecutionProvider"])
    port = session.get_inputs()[0]
    x = (
        np.random.default_rng(1)
        .standard_normal([d if isinstance(d, int) else 1 for d in port.shape])
        .astype(np.float32)
    )
    folder = tempfile.TemporaryDirectory()
    art, array = f"{folder.name}/m.bit", f"{folder.name}/x.npy"
    np.save(array, x)
    subprocess.run([args.bitc, "compile", args.model, "-o", art, "--quiet"], check=True)
    subprocess.run([args.bitc, "run", art, "--input", array, "--output", f"{folder.name}/y.npy", "--quiet"], check=True)
    model = tract.onnx().load(args.model)
    model.set_input_fact(0, f"{','.join(map(str, x.shape))},f32")
    runnable = model.into_model().into_runnable()
    want = session.run(None, {port.name: x})[0]
    scale = np.abs(want).max()
    outputs = {"bitc": np.load(f"{folder.name}/y.npy"), "tract": runnable.run([x])[0].to_numpy(), "onnxruntime": want}

    def bitc():
        said = subprocess.run(
            [args.bitc, "bench", art, "--batch", "1", "--seconds", "0.5", "--json"], check=True, capture_output=True
        ).stdout
        return json.loads(said)["runs"][0]["cpu_ns"]["min"] / 1e6

    times = {"bitc": [], "tract": [], "onnxruntime": []}
    for _ in range(args.runs):
        times["bitc"].append(bitc())
        for _ in range(3):
            times["tract"].append(timed(lambda: runnable.run([x])))
            times["onnxruntime"].append(timed(lambda: session.run(None, {port.name: x})))
    best = {name: min(t) for name, t in times.items()}
    for name, t in times.items():
        difference = np.abs(outputs[name] - want).max() / scale
        print(
            f"{name:12} {best[name]:8.1f} ms   median {statistics.median(t):8.1f} ms   bitc takes {best['bitc'] / best[name]:.2f} of it   differs by {difference:.1e}"
        )


main()
