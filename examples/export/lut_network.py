"""Writes trained networks of lookup tables or gates as `model: lut_network` for bitc: a YAML file and a safetensors file.

    from lut_network import export
    export(model, "net.yaml")                                   # DiffLUT: encoder, layers and group sum are found
    export(model, "net.yaml", inputs=400)                       # difflogic, torchlogix: bits in
    export(model, "net.yaml", thresholds=enc, groups=10, tau=3) # DWN: the encoder is no module, so say what it is

Modules are told apart by what they hold, so no library is imported here; numpy is needed, and torch where DiffLUT nodes
are evaluated. They are taken in the order in which the model holds them; a module inside it that is no list and a layer that
is not known are refused by name, since what they do with their inputs cannot be seen. Tables are read off in one pass over all addresses, which takes seconds where exporting every node to ONNX
takes minutes. Compile the result with `bitc compile net.yaml`; compare it with the model on your data.

What each library means by its tables:
- DiffLUT nodes are called on all 2^n inputs; the answer is bit `y >= 0.5` (`y > 0.5` for fourier), input j is bit j.
- difflogic: the most probable of 16 gates; gate g answers bit 3 - (2a + b) of g. Counts are divided by tau.
- torchlogix: `raw` weights as difflogic; `warp` and `light` by sign. The first input is the highest bit of an address.
  LogicConv2d and OrPooling2d are written out, a copy of each node per place; zeros around an image are part of the tables.
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
    if found.encoder is not None and thresholds is None:
        kind, bits, base, state = found.encoder
        tensors |= {f"encoder.{key}": value for key, value in state.items()}
        lines.append(f"inputs: {len(next(iter(state.values())))}")
        lines.append(f"encoder: {{name: {kind}, num_bits: {bits}, base: {float(base)!r}}}")
    elif found.thresholds is not None:
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
        self.layers, self.thresholds, self.encoder, self.inputs = [], None, None, None
        self.groups = self.tau = self.beta = None
        # Channels, height and width of the image that the last layer leaves, and the axis whose bits stand together.
        self.image = self.bits_axis = None

    def take(self, module):
        has = lambda *names: all(hasattr(module, name) for name in names)
        name = type(module).__name__
        image, self.image = self.image, None
        if has("tree_weights", "connections", "kernel_positions"):
            if len(module.kernel_positions) != 2 or "Transpose" in name:
                raise ValueError(f"{name} layers are not written")
            self.convolution(module, image)
        elif name == "OrPooling2d":
            self.pooling(module, image)
        elif name in PASSED_ON:
            self.image = image
        elif has("_mapping_indices", "nodes"):
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
        elif has("thresholds"):
            if module.thresholds is not None:
                thresholds = module.get_thresholds() if has("get_thresholds") else module.thresholds
                self.thresholds = array(thresholds, np.float32)
                self.bits_axis = getattr(module, "feature_dim", None)
        elif name in ENCODERS:
            kind, state = ENCODERS[name]
            if any(getattr(module, key, None) is None for key in state):
                raise ValueError(f"{name} has not been fitted")
            state = {key: array(getattr(module, key), np.float32) for key in state}
            self.encoder = kind, int(module.num_bits), getattr(module, "base", 2.0), state
        else:
            raise ValueError(f"{name} is no layer that can be written")

    def convolution(self, layer, image):
        channels, (height, width), pad = layer.channels, layer.in_dim, layer.padding
        if image is None:
            if self.layers:
                raise ValueError("a convolution reads an image, which the layer before it is not")
            self.first_image(channels, height, width)
        elif image != (channels, height, width):
            raise ValueError(f"a convolution of {(channels, height, width)} reads an image of {image}")
        # [inputs of a node, kernels, places, leaves, (row, column, channel)], in the image with its border.
        at = array(layer.connections.indices[0]).astype(np.int64)
        row, column, channel = at[..., 0] - pad, at[..., 1] - pad, at[..., 2]
        outside = (row < 0) | (row >= height) | (column < 0) | (column >= width)
        wires = np.where(outside, -1, self.pixel(channel, row, column, height, width, image is None))
        kind = str(getattr(layer, "parametrization", "raw")).lower()
        kernels, places = wires.shape[1:3]
        for level, weight in enumerate(layer.tree_weights):
            weight = array(weight)
            nodes = len(weight)
            if level > 0:
                # The answers of the level before stand kernel by kernel, place by place.
                base = array(layer.connections.indices[level]).astype(np.int64)
                before = np.arange(kernels * places).reshape(1, kernels, places, 1) * base.size
                wires = before + base[:, None, None, :]
            tables = np.stack([torchlogix_tables(w, kind, len(wires)) for w in weight], 1)
            tables = np.broadcast_to(tables[:, None], (kernels, places, nodes, tables.shape[-1]))
            wires = wires.reshape(len(wires), -1)[::-1].T
            self.add(wires, tables.reshape(len(wires), -1))
        self.image = (kernels, *layer.kernel_positions)

    def first_image(self, channels, height, width):
        """What the encoder makes of an image: the bits of a pixel are channels."""
        if self.thresholds is None:
            self.inputs = channels * height * width
            return
        bits = self.thresholds.shape[-1]
        if self.bits_axis not in (1, -4) or channels % bits:
            raise ValueError("the bits of an image must be channels: a binarization with `feature_dim` 1")
        pixels, rows = channels // bits * height * width, self.thresholds.reshape(-1, bits)
        if self.thresholds.ndim > 2 or pixels % len(rows):
            raise ValueError(f"thresholds of the shape {self.thresholds.shape} are not for images of {channels // bits} channels")
        # Shared by all pixels, or by those of a channel.
        self.thresholds = np.repeat(rows, pixels // len(rows), 0)

    def pixel(self, channel, row, column, height, width, first):
        """The wire of a place in an image; the encoder leaves the bits of a pixel side by side."""
        bits = self.thresholds.shape[1] if first and self.thresholds is not None else 1
        return ((channel // bits * height + row) * width + column) * bits + channel % bits

    def pooling(self, layer, image):
        if image is None:
            raise ValueError("OrPooling2d reads an image, which the layer before it is not")
        pair = lambda v: tuple(v) if isinstance(v, (tuple, list)) else (v, v)
        kernel, pad = pair(layer.kernel_size), pair(layer.padding)
        stride = pair(layer.kernel_size if layer.stride is None else layer.stride)
        # Along one axis, then along the other: two small tables in place of a large one.
        for axis in (1, 0):
            channels, size = image[0], image[1:]
            n = (size[axis] + 2 * pad[axis] - kernel[axis]) // stride[axis] + 1
            at = np.arange(n)[:, None] * stride[axis] - pad[axis] + np.arange(kernel[axis])
            at = np.where((at < 0) | (at >= size[axis]), -1, at)
            if axis == 1:
                lines = np.arange(channels * size[0])[:, None, None] * size[1]
                wires = np.where(at < 0, -1, lines + at)
                image = (channels, size[0], n)
            else:
                column = np.arange(size[1])[None, None, :, None]
                wires = (np.arange(channels)[:, None, None, None] * size[0] + at[None, :, None, :]) * size[1] + column
                wires = np.where(at[None, :, None, :] < 0, -1, wires)
                image = (channels, n, size[1])
            wires = wires.reshape(-1, kernel[axis])
            tables = np.ones((len(wires), 2 ** kernel[axis]), np.uint8)
            tables[:, 0] = 0
            self.add(wires, tables)
        self.image = image

    def add(self, wires, tables):
        """A layer; an input that is -1 is always 0, so that its address bit is never set."""
        unread = ((wires < 0) << np.arange(wires.shape[1])).sum(1)
        addresses = np.arange(tables.shape[1])[None] & ~unread[:, None]
        tables = np.take_along_axis(np.ascontiguousarray(tables).astype(np.uint8), addresses, 1)
        self.layers.append((np.maximum(wires, 0).astype(np.int32), tables))

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
        tables = torchlogix_tables(weight, kind, len(indices))
        self.layers.append((connections, np.ascontiguousarray(tables).astype(np.uint8)))
        self.inputs = self.inputs or getattr(layer, "in_dim", None)


def torchlogix_tables(weight, kind, inputs):
    """Tables of the nodes of weights [nodes, ..]; the first input is the highest bit of an address."""
    size = 2**inputs
    if "raw" in kind and inputs <= 2 and weight.shape[1] == 2**size:
        # Gate g answers bit `size - 1 - address` of g.
        return (weight.argmax(axis=1)[:, None] >> (size - 1 - np.arange(size))) & 1
    if "warp" in kind and weight.shape[1] == size:
        parity = [[bin(i & j).count("1") for j in range(size)] for i in range(size)]
        return weight @ (1 - 2 * (np.array(parity) % 2)) < 0
    if "light" in kind and weight.shape[1] == size:
        return weight > 0
    raise ValueError(f"a layer of {inputs} inputs with weights {weight.shape} ({kind}) is not known")


def gates(ids):
    """Tables of the sixteen gates by difflogic's numbers; address a + 2b."""
    address = np.array([0, 2, 1, 3])
    return ((ids[:, None] >> (3 - address)) & 1).astype(np.uint8)


# Modules that leave their inputs as they are.
PASSED_ON = ("Identity", "Dropout", "Flatten")
# Encoders of DiffLUT without thresholds, and what they were fitted to.
ENCODERS = {
    "BinaryEncoder": ("binary", ["min_value", "max_value"]),
    "GrayEncoder": ("gray", ["min_value", "max_value"]),
    "OneHotEncoder": ("onehot", ["bin_edges"]),
    "SignMagnitudeEncoder": ("sign_magnitude", ["max_abs_value"]),
    "LogarithmicEncoder": ("logarithmic", ["offset", "min_log", "max_log"]),
}


def leaves(model, outermost=True):
    """The modules that are layers, encoders or sums, outermost first and none inside another."""
    known = ("_mapping_indices", "nodes", "luts", "indices", "connections", "thresholds", "tau", "min_value", "bin_edges")
    name = type(model).__name__
    if any(hasattr(model, name) for name in known) or name == "OrPooling2d" or name in ENCODERS:
        return [model]
    if name == "ConvolutionalLayer":
        raise ValueError("convolutional DiffLUT models are compiled from their configuration and their state dict")
    children = list(model.children()) if hasattr(model, "children") else list(model)
    if not children:
        return [] if name in ("Sequential", "ModuleList", "list", "tuple") else [model]
    if not outermost and name not in ("Sequential", "ModuleList", "list", "tuple"):
        raise ValueError(f"in which order {name} uses its layers is not known: give them as a list")
    return [leaf for child in children for leaf in leaves(child, False)]


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
