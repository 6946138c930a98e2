"""Makes all_layers: a network with every layer of the YAML schema, its weights and what PyTorch computes with them.

Needs torch and numpy. The quantisers are written from the formulas of BitLab, BitLab's later version and BitNet b1.58.
"""

import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

HERE = pathlib.Path(__file__).parent / "all_layers"


def ternary(w, semantics, per_channel):
    mean = w.abs().mean(dim=tuple(range(1, w.dim())), keepdim=True) if per_channel else w.abs().mean()
    if semantics == "bitnet":
        factor = 1.0 / mean.clamp(min=1e-5)
        return (w * factor).round().clamp(-1, 1) / factor
    return (w / (mean + 1e-6)).round().clamp(-1, 1) * mean


def quantized(x, semantics, dtype="int8", granularity="per_tensor", bits=8):
    conv = x.dim() == 4
    if semantics == "bitlab" and dtype == "float32":
        return x.round().clamp(-128, 127)
    if granularity == "per_sample":
        largest = x.abs().amax((1, 2, 3), keepdim=True)
    elif semantics == "bitlab" and granularity == "per_tensor":
        largest = x.abs().max()
    else:
        largest = x.abs().amax(1 if conv else -1, keepdim=True)
    if semantics == "bitlab":
        scale = largest / 127
        return (x / (scale + 1e-6 / 127)).round().clamp(-128, 127) * scale
    if semantics == "bitlab_head":
        scale = (largest / 127).clamp(min=1e-6)
        return (x / scale).round().clamp(-127, 127) * scale
    levels = 2 ** (bits - 1) - 1
    factor = (1.0 / largest.clamp(min=1e-5)) * levels
    return (x * factor).round().clamp(-levels - 1, levels) / factor


class BitLinear(nn.Linear):
    def __init__(self, n_in, n_out, semantics, per_channel=False, norm=False, adds_bias=True, **quant):
        super().__init__(n_in, n_out)
        self.semantics, self.per_channel, self.adds_bias, self.quant = semantics, per_channel, adds_bias, quant
        self.norm = nn.RMSNorm(n_in, eps=1e-5) if norm else nn.Identity()

    def forward(self, x):
        x = quantized(self.norm(x), self.semantics, **self.quant)
        return F.linear(x, ternary(self.weight, self.semantics, self.per_channel), self.bias if self.adds_bias else None)


class BitConv2d(nn.Conv2d):
    def __init__(self, *sizes, semantics, per_channel=False, quant=None, **window):
        super().__init__(*sizes, **window)
        self.semantics, self.per_channel, self.quant = semantics, per_channel, quant or {}

    def forward(self, x):
        x = quantized(x, self.semantics, **self.quant)
        return F.conv2d(x, ternary(self.weight, self.semantics, self.per_channel), self.bias, self.stride, self.padding)


class Residual(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.layers(x)


class Relu2(nn.Module):
    def forward(self, x):
        return F.relu(x) ** 2


torch.manual_seed(1)
net = nn.Sequential(
    nn.Conv2d(2, 4, 3, padding=1, groups=2, bias=False),
    nn.BatchNorm2d(4),
    nn.ReLU(),
    BitConv2d(4, 4, 3, padding=1, semantics="bitnet"),
    BitConv2d(4, 4, (1, 3), stride=(1, 2), padding=(0, 1), semantics="bitlab_head", quant={"granularity": "per_sample"}),
    BitConv2d(4, 6, 1, semantics="bitlab", per_channel=True),
    nn.SiLU(),
    nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    nn.AvgPool2d(2, 1, 1),
    nn.Flatten(2),
    nn.Flatten(),
    nn.LazyLinear(16),
    nn.LayerNorm(16),
    nn.GELU("tanh"),
    nn.GELU(),
    Residual(
        nn.RMSNorm(16),
        BitLinear(16, 8, "bitlab"),
        Relu2(),
        BitLinear(8, 16, "bitnet", norm=True, adds_bias=False, bits=4),
        nn.Tanh(),
    ),
    nn.Dropout(0.5),
    nn.Sigmoid(),
    BitLinear(16, 12, "bitlab_head"),
    BitLinear(12, 12, "bitlab", granularity="per_channel", per_channel=True),
    BitLinear(12, 12, "bitnet", norm=True),
    nn.BatchNorm1d(12, affine=False),
    BitLinear(12, 12, "bitlab", dtype="float32"),
    nn.Linear(12, 10),
    nn.Softmax(-1),
)
x = torch.randn(4, 2, 9, 9)
net(x)
for module in net.modules():
    if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
        module.running_mean.normal_()
        module.running_var.uniform_(0.5, 2)
    if isinstance(module, (nn.RMSNorm, nn.LayerNorm)):
        module.weight.data.uniform_(0.5, 1.5)
net.eval()
with torch.no_grad():
    expected = net(x)
torch.save({"epoch": 1, "state_dict": net.state_dict()}, HERE / "weights.pt")
np.save(HERE / "input.npy", x.numpy())
np.save(HERE / "expected.npy", expected.numpy())
