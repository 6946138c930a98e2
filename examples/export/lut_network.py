"""Writes trained networks of lookup tables or gates as `model: lut_network` for bitc: a YAML file and a safetensors file.

    from lut_network import export
    export(model, "net.yaml")                                   # DiffLUT: encoder, layers and group sum are found
    export(model, "net.yaml", inputs=400)                       # difflogic, torchlogix: bits in
    export(model, "net.yaml", thresholds=enc, groups=10, tau=3) # DWN: the encoder is no module, so say what it is

Modules are told apart by what they hold, so no library is imported here; numpy is needed, and torch where DiffLUT nodes
are evaluated. Tables are read off in one pass over all addresses, which takes seconds where exporting every node to ONNX
takes minutes. Compile the result with `bitc compile net.yaml`; compare it with the model on your data.

What each library means by its tables:
- DiffLUT nodes are called on all 2^n inputs; the answer is bit `y >= 0.5` (`y > 0.5` for fourier), input j is bit j.
- difflogic: the most probable of 16 gates; gate g answers bit 3 - (2a + b) of g. Counts are divided by tau.
- torchlogix: `raw` weights as difflogic; `warp` and `light` by sign. The first input is the highest bit of an address.
- DWN: entries above 0 are 1; input j is bit j.
"""

import json
import os
import struct

import numpy as np


def export(model, path, *, inputs=None, thresholds=None, groups=None, tau=None, beta=None):
    """Writes `path` and, beside it, `.safetensors` with the same stem. What is given wins over what the model holds."""
    found = Found()
    for module in leaves(model):
        found.take(module)
    if thresholds is not None:
        found.thresholds = array(thresholds, np.float32)
    if not found.layers:
        raise ValueError("no layer of tables or gates was found in the model")
    groups = groups if groups is not None else found.groups
    tau = tau if tau is not None else found.tau
    beta = beta if beta is not None else found.beta

    tensors, lines = {}, ["model: lut_network"]
    if found.thresholds is not None:
        if found.thresholds.ndim == 1:
            # Thresholds that all features share.
            bits = len(found.thresholds)
            features = inputs if inputs is not None else (found.inputs or 0) // bits
            if features == 0:
                raise ValueError("thresholds of the shape [bits] are shared by all features: say how many with `inputs`")
            found.thresholds = np.tile(found.thresholds, (features, 1))
        if found.thresholds.ndim != 2:
            raise ValueError("thresholds must have the shape [features, bits]")
        tensors["thresholds"] = found.thresholds
        lines += [f"inputs: {len(found.thresholds)}", "encoder: {name: thermometer, thresholds: thresholds}"]
    else:
        width = inputs if inputs is not None else found.inputs
        lines.append(f"inputs: {width if width is not None else int(found.layers[0][0].max()) + 1}")
    lines.append("layers:")
    for i, (connections, tables) in enumerate(found.layers):
        tensors[f"inputs{i}"], tensors[f"tables{i}"] = connections, tables
        lines.append(f"  - {{inputs: inputs{i}, tables: tables{i}}}")
    if groups is None:
        lines.append("output: bits")
    else:
        lines.append(f"output: {{group_sum: {{groups: {groups}, tau: {float(tau or 1)!r}, beta: {float(beta or 0)!r}}}}}")
    weights = os.path.splitext(path)[0] + ".safetensors"
    lines.append(f"weights: {json.dumps(os.path.basename(weights))}")
    save(weights, tensors)
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


class Found:
    """What the modules of a model say, in the order in which they are held."""

    def __init__(self):
        self.layers, self.thresholds, self.inputs = [], None, None
        self.groups = self.tau = self.beta = None

    def take(self, module):
        has = lambda *names: all(hasattr(module, name) for name in names)
        if has("_mapping_indices", "nodes"):
            self.difflut(module)
        elif has("mapping", "nodes"):
            self.difflut(module)
        elif has("luts", "mapping"):
            self.dwn(module)
        elif has("weight", "connections"):
            self.torchlogix(module)
        elif has("weights", "indices") and isinstance(module.indices, (tuple, list)):
            self.difflogic(module)
        elif has("k", "tau"):
            self.groups, self.tau = int(module.k), float(module.tau)
            self.beta = float(getattr(module, "beta", 0.0) or 0.0)
            self.last_order(getattr(module, "randperm", None))
        elif has("thresholds") and module.thresholds is not None:
            self.thresholds = array(module.thresholds, np.float32)

    def last_order(self, order):
        """Outputs in the order in which a sum groups them, which is drawn once when the sum is made."""
        if order is None or order is False:
            return
        if not hasattr(order, "shape") or not self.layers:
            raise ValueError("the sum draws another order of its inputs in every call")
        connections, tables = self.layers[-1]
        self.layers[-1] = (np.ascontiguousarray(connections[array(order)]), np.ascontiguousarray(tables[array(order)]))

    def difflut(self, layer):
        import torch

        if hasattr(layer, "_mapping_indices"):
            connections = array(layer._mapping_indices)
        else:
            # A learnable mapping keeps one column of weights per input of a node.
            chosen = array(layer.mapping.W).argmax(axis=1)
            connections = chosen.reshape(len(layer.nodes), -1)
        width, n = connections.shape
        bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        every = torch.tensor(bits, dtype=torch.float32)
        tables = np.zeros((width, 2**n), np.uint8)
        with torch.no_grad():
            for w, node in enumerate(layer.nodes):
                node.eval()
                answers = array(node(every)).reshape(2**n, -1)[:, 0]
                real = type(node).__name__.lower().startswith("fourier")
                if not real and not np.isin(answers, (0.0, 1.0)).all():
                    raise ValueError(f"node {w} of a layer answers with real numbers, which are no bits")
                tables[w] = answers > 0.5 if real else answers >= 0.5
        self.layers.append((connections.astype(np.int32), tables))

    def dwn(self, layer):
        luts = array(layer.luts)
        mapping = layer.mapping
        if hasattr(mapping, "weights"):
            connections = array(mapping.weights).argmax(axis=0).reshape(len(luts), -1)
        else:
            connections = array(mapping)
        if not getattr(layer, "ste", True):
            raise ValueError("a layer without `ste` answers with real numbers, which are no bits")
        self.layers.append((connections.astype(np.int32), (luts > 0).astype(np.uint8)))
        self.inputs = self.inputs or getattr(layer, "input_size", None)

    def difflogic(self, layer):
        a, b = (array(i).reshape(-1) for i in layer.indices)
        self.layers.append((np.stack([a, b], 1).astype(np.int32), gates(array(layer.weights).argmax(axis=1))))
        self.inputs = self.inputs or getattr(layer, "in_dim", None)

    def torchlogix(self, layer):
        weight = array(layer.weight)
        learned = hasattr(layer.connections, "resolve_connections")
        indices = array(layer.connections.resolve_connections() if learned else layer.connections.indices)
        # Row r of the indices is input r, the highest address bit first; here the lowest comes first.
        connections = indices[::-1].T.astype(np.int32)
        kind = str(getattr(layer, "parametrization", "raw")).lower()
        size = 2 ** len(indices)
        if "raw" in kind and weight.shape[1] == 16 and len(indices) == 2:
            # Gate g answers bit 3 - (2a + b), and a is the higher address bit.
            tables = np.stack([(weight.argmax(axis=1) >> (3 - address)) & 1 for address in range(4)], 1)
        elif "warp" in kind and weight.shape[1] == size:
            parity = [[bin(i & j).count("1") for j in range(size)] for i in range(size)]
            tables = weight @ (1 - 2 * (np.array(parity) % 2)) < 0
        elif "light" in kind and weight.shape[1] == size:
            tables = weight > 0
        else:
            raise ValueError(f"a layer of {len(indices)} inputs with weights {weight.shape} ({kind}) is not known")
        self.layers.append((connections, np.ascontiguousarray(tables).astype(np.uint8)))
        self.inputs = self.inputs or getattr(layer, "in_dim", None)


def gates(ids):
    """Tables of the sixteen gates by difflogic's numbers; address a + 2b."""
    address = np.array([0, 2, 1, 3])
    return ((ids[:, None] >> (3 - address)) & 1).astype(np.uint8)


def leaves(model):
    """The modules that are layers, encoders or sums, outermost first and none inside another."""
    known = ("_mapping_indices", "nodes", "luts", "indices", "connections", "thresholds", "tau")
    if any(hasattr(model, name) for name in known):
        return [model]
    children = model.children() if hasattr(model, "children") else model
    return [leaf for child in children for leaf in leaves(child)]


def array(tensor, dtype=None):
    """A tensor or a list as an array."""
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu().numpy()
    return np.ascontiguousarray(tensor, dtype)


def save(path, tensors):
    """A safetensors file, whole or not at all."""
    names = {"float32": "F32", "int32": "I32", "uint8": "U8"}
    header, offset, arrays = {}, 0, []
    for name, tensor in tensors.items():
        tensor = np.ascontiguousarray(tensor)
        header[name] = {"dtype": names[str(tensor.dtype)], "shape": list(tensor.shape), "data_offsets": [offset, offset + tensor.nbytes]}
        offset += tensor.nbytes
        arrays.append(tensor)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(path + ".part", "wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for tensor in arrays:
            file.write(tensor.tobytes())
    os.replace(path + ".part", path)
