"""Makes the torch files in this folder without torch, in the layout that torch.save writes.

The pickles come from Python's own pickler, with stand-ins for the few names of torch that they mention, and the archives
are laid out as torch's writer does: entries are stored, sizes follow the data in descriptors, extra fields align the data
to 64 bytes, and the 64-bit end records are always there.
"""

import io
import pathlib
import pickle
import struct
import sys
import types
import zipfile
import zlib
from collections import OrderedDict

HERE = pathlib.Path(__file__).parent


def stand_in(module, name):
    """A class that pickles as `module.name` and makes nothing."""
    if module not in sys.modules:
        sys.modules[module] = types.ModuleType(module)
    cls = type(name, (), {"__module__": module, "__qualname__": name})
    setattr(sys.modules[module], name, cls)
    return cls


rebuild_v2 = stand_in("torch._utils", "_rebuild_tensor_v2")
rebuild_v3 = stand_in("torch._utils", "_rebuild_tensor_v3")
rebuild_parameter = stand_in("torch._utils", "_rebuild_parameter")
untyped_storage = stand_in("torch.storage", "UntypedStorage")
FLOAT = (stand_in("torch", "FloatStorage"), "f")
HALF = (stand_in("torch", "HalfStorage"), "e")
BFLOAT16 = (stand_in("torch", "BFloat16Storage"), "h")
LONG = (stand_in("torch", "LongStorage"), "q")
CHAR = (stand_in("torch", "CharStorage"), "b")
uint16 = stand_in("torch", "uint16")


class Storage:
    def __init__(self, kind, values):
        self.type, self.data = kind[0], struct.pack(f"<{len(values)}{kind[1]}", *values)
        self.count = len(self.data) if kind[0] is untyped_storage else len(values)


class Tensor:
    """A view of a storage, pickled as torch pickles one."""

    def __init__(self, storage, size, stride=None, offset=0, dtype=None):
        if stride is None:
            stride = [1]
            for n in reversed(size[1:]):
                stride.insert(0, stride[0] * n)
            stride = stride[: len(size)]
        self.args = (storage, offset, tuple(size), tuple(stride), False, OrderedDict())
        self.dtype = dtype

    def __reduce__(self):
        return (rebuild_v3, (*self.args, self.dtype)) if self.dtype else (rebuild_v2, self.args)


class Parameter:
    def __init__(self, tensor):
        self.tensor = tensor

    def __reduce__(self):
        return rebuild_parameter, (self.tensor, True, OrderedDict())


def save(name, root, protocol=2, order=b"little", extra=()):
    storages = {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            if not isinstance(thing, Storage):
                return None
            key = storages.setdefault(id(thing), (str(len(storages)), thing))[0]
            return ("storage", thing.type, key, "cpu", thing.count)

    stream = io.BytesIO()
    Pickler(stream, protocol).dump(root)
    folder = name.removesuffix(".pt")
    entries = [("data.pkl", stream.getvalue()), (".format_version", b"1"), (".storage_alignment", b"64")]
    entries += [("byteorder", order)]
    entries += [(f"data/{key}", thing.data) for key, thing in storages.values()]
    entries += [("version", b"3\n"), (".data/serialization_id", b"0" * 40), *extra]
    (HERE / name).write_bytes(archive([(f"{folder}/{path}", data) for path, data in entries]))


def archive(entries):
    out, directory = bytearray(), bytearray()
    for name, data in entries:
        at, path = len(out), name.encode()
        padding = -(at + 30 + len(path) + 4) % 64
        fields = struct.pack("<HHHHH", 0, 0x0808, 0, 0, 0)
        out += b"PK\3\4" + fields + struct.pack("<IIIHH", 0, 0, 0, len(path), padding + 4)
        out += path + b"FB" + struct.pack("<H", padding) + b"Z" * padding + data
        sizes = struct.pack("<III", zlib.crc32(data), len(data), len(data))
        out += b"PK\7\x08" + sizes
        directory += b"PK\1\2" + b"\0\0" + fields + sizes
        directory += struct.pack("<HHHHHII", len(path), 0, 0, 0, 0, 0, at) + path
    start = len(out)
    end64 = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, *[len(entries)] * 2, len(directory), start)
    locator = b"PK\6\7" + struct.pack("<IQI", 0, start + len(directory), 1)
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, *[len(entries)] * 2, len(directory), start, 0)
    return bytes(out + directory + end64 + locator + end)


def state_dict():
    shared = Storage(FLOAT, [i / 2 for i in range(12)])
    state = OrderedDict()
    state["network.0.weight"] = Parameter(Tensor(shared, [3, 4]))
    state["network.0.bias"] = Tensor(Storage(FLOAT, [1, -2, 3]), [3])
    state["transposed"] = Tensor(shared, [4, 3], [1, 4])
    state["row"] = Tensor(shared, [4], [1], offset=8)
    state["column"] = Tensor(shared, [3], [4], offset=1)
    state["count"] = Tensor(Storage(LONG, [-7]), [])
    state["half"] = Tensor(Storage(HALF, [0.5, 65504]), [2])
    state["bfloat16"] = Tensor(Storage(BFLOAT16, [0x3FC0, -0x4000]), [1, 2])
    state["char"] = Tensor(Storage(CHAR, [-1, 0, 1]), [3])
    state["empty"] = Tensor(Storage(FLOAT, []), [0, 3])
    state["uint16"] = Tensor(Storage((untyped_storage, "H"), [65535, 2]), [2], dtype=uint16)
    state._metadata = OrderedDict([("", {"version": 1}), ("network", {"version": 1})])
    return state


state = state_dict()
checkpoint = {"epoch": 3, "lr": 0.125, "seed": 2**63, "name": "näme", "done": False, "history": [1, -70000, None, (1.5,)]}
checkpoint["optimizer"] = {"state": {0: {"step": Tensor(Storage(FLOAT, [9]), [])}}, "param_groups": [{"params": [0, 1]}]}
checkpoint["state_dict"] = state

save("state_dict.pt", state)
save("protocol4.pt", state, protocol=4)
save("checkpoint.pt", checkpoint)
save("big_endian.pt", {}, order=b"big")
save("scripted.pt", {}, extra=[("constants.pkl", pickle.dumps((), 2)), ("code/__torch__.py", b"")])
save("whole_module.pt", stand_in("__main__", "Net")())

with zipfile.ZipFile(HERE / "compressed.pt", "w", zipfile.ZIP_DEFLATED) as file:
    file.writestr(zipfile.ZipInfo("compressed/data.pkl"), pickle.dumps({}, 2), zipfile.ZIP_DEFLATED)
with zipfile.ZipFile(HERE / "arrays.npz", "w") as file:
    file.writestr(zipfile.ZipInfo("arr_0.npy"), b"")
