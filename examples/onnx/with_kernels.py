"""Runs a model that `bitc export` wrote twice: as any onnxruntime does, and with bitc's kernels registered.

    cargo build --release -p bitc-onnxruntime
    python with_kernels.py model.onnx target/release/libbitc_onnxruntime.so

Without the library the operators of ai.bitc run by their bodies; with it those that it knows run on its kernels. Prints
whether the results are equal, and the best time of each. Needs numpy and onnxruntime.
"""

import sys
import time

import numpy as np
import onnxruntime

from run_anywhere import inputs_for


def session(model_path, library=None):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if library:
        options.register_custom_ops_library(library)
    return onnxruntime.InferenceSession(model_path, options)


def best_ms(run, times=200):
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best * 1e3


def main(model_path, library):
    plain, kernels = session(model_path), session(model_path, library)
    arrays = inputs_for(plain, None)
    by_body, by_kernel = plain.run(None, arrays), kernels.run(None, arrays)
    for port, a, b in zip(plain.get_outputs(), by_body, by_kernel):
        same = "equal bit by bit" if np.array_equal(a, b) else f"differ by {np.abs(a - b).max():.3e}"
        print(f"{port.name}: {same}")
    print(f"bodies:  {best_ms(lambda: plain.run(None, arrays)):.4f} ms")
    print(f"kernels: {best_ms(lambda: kernels.run(None, arrays)):.4f} ms")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
