"""Makes torch_views.pth and torch_checkpoint.pt with torch itself (torch 2.15): views of one storage, every element type
that is read, and a checkpoint with an optimizer and other values beside the state dict."""

import pathlib

import torch
from torch import nn

HERE = pathlib.Path(__file__).parent

t = torch.arange(24.0).reshape(2, 3, 4)
views = {
    "whole": t,
    "transposed": t.transpose(0, 2),
    "part": t[1],
    "rows": t[:, 1],
    "columns": t[..., ::2],
    "expanded": t[0, 0].expand(2, 4),
    "scalar": torch.tensor(3),
    "empty": torch.zeros(0, 3),
    "parameter": nn.Parameter(t),
}
for dtype in ["half", "bfloat16", "double", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64", "bool"]:
    views[dtype] = t.to(getattr(torch, dtype))
torch.save(views, HERE / "torch_views.pth")

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
model(torch.randn(5, 4)).sum().backward()
optimizer.step()
for parameter in model.parameters():
    parameter.data.copy_(torch.arange(parameter.numel()).reshape(parameter.shape))
checkpoint = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "loss": 0.5}
checkpoint["args"] = {"device": torch.device("cpu"), "shape": torch.Size([1, 2]), "dtype": torch.float32}
torch.save(checkpoint, HERE / "torch_checkpoint.pt")
