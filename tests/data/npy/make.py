"""Makes the .npy files in this folder with numpy: every element type in both orders and both byte orders."""

import pathlib

import numpy as np

HERE = pathlib.Path(__file__).parent

for name in ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]:
    values = np.arange(12).reshape(2, 2, 3)
    values = values % 2 == 1 if name == "b1" else values
    for byte_order, byte_name in [("<", "little"), (">", "big")]:
        array = values.astype(np.dtype(byte_order + name))
        np.save(HERE / f"{name}_c_{byte_name}.npy", np.ascontiguousarray(array))
        np.save(HERE / f"{name}_fortran_{byte_name}.npy", np.asfortranarray(array))

for version in [2, 3]:
    with open(HERE / f"version{version}.npy", "wb") as file:
        np.lib.format.write_array(file, np.array([1.5, -2, 0], np.float32), version=(version, 0))

np.save(HERE / "scalar.npy", np.int64(7))
np.save(HERE / "empty.npy", np.zeros((0, 5), np.float32))
np.save(HERE / "vector.npy", np.arange(3, dtype=np.uint16))
