"""Exports models from torch by both of its exporters, compiles them with bitc, and compares with onnxruntime.

    torch_exports.py BITC DIR [--only REGEX]

Weights are random and seeded, with statistics of normalisation layers taken from random data, so that outputs are not
flat. Every model has a dynamic batch and runs at two batch sizes. Prints one line per model and exporter; exit 1 where
something was refused or differs by more than 1e-4 of the largest output. Needs torch, torchvision, onnxscript and
onnxruntime.
"""

import argparse, os, re, subprocess, sys, time, warnings, logging

os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.simplefilter("ignore")
logging.disable(logging.WARNING)
import numpy as np, torch, torchvision, onnxruntime as ort
from torch import nn
from torchvision import models as tv

torch.set_num_threads(1)

IMAGE = (3, 224, 224)


class Lstm(nn.Module):
    def __init__(self, kind=nn.LSTM, **kw):
        super().__init__()
        self.rnn = kind(12, 16, num_layers=2, batch_first=True, **kw)
        self.head = nn.Linear(16 * (2 if kw.get("bidirectional") else 1), 5)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


class Gpt(nn.Module):
    """A small decoder: embedding, causal attention, GELU, tied head."""

    def __init__(self, d=32, h=4, t=24, vocab=50):
        super().__init__()
        self.h = h
        self.tok, self.pos = nn.Embedding(vocab, d), nn.Embedding(t, d)
        self.ln1, self.ln2, self.ln3 = nn.LayerNorm(d), nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.fc, self.out = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, ids):
        b, t = ids.shape
        x = self.tok(ids) + self.pos(torch.arange(t, device=ids.device))
        q, k, v = self.qkv(self.ln1(x)).chunk(3, dim=-1)
        q, k, v = (z.view(b, t, self.h, -1).transpose(1, 2) for z in (q, k, v))
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(b, t, -1))
        x = x + self.out(nn.functional.gelu(self.fc(self.ln2(x)), approximate="tanh"))
        return self.ln3(x) @ self.tok.weight.T


class Llama(nn.Module):
    """RMSNorm, rotary embedding, grouped-query attention, SwiGLU."""

    def __init__(self, d=32, h=4, kv=2, t=16, vocab=40):
        super().__init__()
        self.h, self.kv, self.hd = h, kv, d // h
        self.tok = nn.Embedding(vocab, d)
        self.n1, self.n2 = nn.RMSNorm(d), nn.RMSNorm(d)
        self.q, self.k, self.v, self.o = (
            nn.Linear(d, d, bias=False),
            nn.Linear(d, kv * self.hd, bias=False),
            nn.Linear(d, kv * self.hd, bias=False),
            nn.Linear(d, d, bias=False),
        )
        self.gate, self.up, self.down = (
            nn.Linear(d, 64, bias=False),
            nn.Linear(d, 64, bias=False),
            nn.Linear(64, d, bias=False),
        )
        f = 1.0 / (10000 ** (torch.arange(0, self.hd, 2) / self.hd))
        a = torch.outer(torch.arange(t), f)
        self.register_buffer("cos", torch.cat([a.cos()] * 2, -1))
        self.register_buffer("sin", torch.cat([a.sin()] * 2, -1))

    def rope(self, x):
        a, b = x.chunk(2, -1)
        t = x.shape[2]
        return x * self.cos[:t] + torch.cat([-b, a], -1) * self.sin[:t]

    def forward(self, ids):
        b, t = ids.shape
        x = self.tok(ids)
        y = self.n1(x)
        q = self.rope(self.q(y).view(b, t, self.h, self.hd).transpose(1, 2))
        k = self.rope(self.k(y).view(b, t, self.kv, self.hd).transpose(1, 2)).repeat_interleave(self.h // self.kv, 1)
        v = self.v(y).view(b, t, self.kv, self.hd).transpose(1, 2).repeat_interleave(self.h // self.kv, 1)
        m = torch.full((t, t), float("-inf")).triu(1)
        y = torch.softmax(q @ k.transpose(-1, -2) / self.hd**0.5 + m, -1) @ v
        x = x + self.o(y.transpose(1, 2).reshape(b, t, -1))
        y = self.n2(x)
        return x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))


class Unet(nn.Module):
    def __init__(self):
        super().__init__()
        block = lambda i, o: nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU())
        self.a, self.b, self.c = block(3, 8), block(8, 16), block(16, 32)
        self.up1, self.up2 = nn.ConvTranspose2d(32, 16, 2, stride=2), nn.Upsample(
            scale_factor=2, mode="bilinear", align_corners=False
        )
        self.d, self.e, self.head = block(32, 16), block(24, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        a = self.a(x)
        b = self.b(nn.functional.max_pool2d(a, 2))
        c = self.c(nn.functional.max_pool2d(b, 2))
        d = self.d(torch.cat([self.up1(c), b], 1))
        return self.head(self.e(torch.cat([self.up2(d), a], 1)))


def encoder(norm_first):
    return nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, activation="gelu", norm_first=norm_first)


MODELS = {
    "resnet18": (lambda: tv.resnet18(), IMAGE),
    "resnet50": (lambda: tv.resnet50(), IMAGE),
    "mobilenet_v2": (lambda: tv.mobilenet_v2(), IMAGE),
    "mobilenet_v3": (lambda: tv.mobilenet_v3_small(), IMAGE),
    "mobilenet_v3_large": (lambda: tv.mobilenet_v3_large(), IMAGE),
    "squeezenet": (lambda: tv.squeezenet1_1(), IMAGE),
    "vit_b_16": (lambda: tv.vit_b_16(), IMAGE),
    "encoder": (lambda: encoder(False), (10, 32)),
    "encoder_norm_first": (lambda: encoder(True), (10, 32)),
    "efficientnet_b0": (lambda: tv.efficientnet_b0(), IMAGE),
    "densenet121": (lambda: tv.densenet121(), IMAGE),
    "convnext_tiny": (lambda: tv.convnext_tiny(), IMAGE),
    "swin_t": (lambda: tv.swin_t(), IMAGE),
    "swin_v2_t": (lambda: tv.swin_v2_t(), (3, 256, 256)),
    "shufflenet": (lambda: tv.shufflenet_v2_x1_0(), IMAGE),
    "googlenet": (lambda: tv.googlenet(aux_logits=False, init_weights=False), IMAGE),
    "inception_v3": (lambda: tv.inception_v3(aux_logits=False, init_weights=False), (3, 299, 299)),
    "regnet": (lambda: tv.regnet_y_400mf(), IMAGE),
    "mnasnet": (lambda: tv.mnasnet0_5(), IMAGE),
    "vgg11_bn": (lambda: tv.vgg11_bn(), IMAGE),
    "alexnet": (lambda: tv.alexnet(), IMAGE),
    "maxvit": (lambda: tv.maxvit_t(), IMAGE),
    "deeplab": (
        lambda: Out(tv.segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None)),
        (3, 96, 96),
    ),
    "lstm": (lambda: Lstm(), (7, 12)),
    "lstm_bi": (lambda: Lstm(bidirectional=True), (7, 12)),
    "gru": (lambda: Lstm(nn.GRU), (7, 12)),
    "rnn": (lambda: Lstm(nn.RNN), (7, 12)),
    "gpt": (lambda: Gpt(), ("ids", 24, 50)),
    "llama": (lambda: Llama(), ("ids", 16, 40)),
    "unet": (lambda: Unet(), (3, 32, 32)),
}


class Out(nn.Module):
    def __init__(self, m):
        super().__init__()
        self.m = m

    def forward(self, x):
        return self.m(x)["out"]


def sample(shape, batch, rng):
    if shape[0] == "ids":
        return torch.from_numpy(rng.integers(0, shape[2], (batch, shape[1])))
    return torch.from_numpy(rng.standard_normal((batch, *shape)).astype(np.float32))


def build(name):
    make, shape = MODELS[name]
    torch.manual_seed(sum(map(ord, name)))
    rng = np.random.default_rng(1)
    model = make()
    for m in model.modules():
        if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.kaiming_normal_(m.weight, nonlinearity="relu" if isinstance(m, nn.Conv2d) else "linear")
            if m.bias is not None:
                nn.init.normal_(m.bias, std=0.1)
        elif isinstance(m, (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)) and m.weight is not None:
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias, std=0.3)
            if isinstance(m, nn.BatchNorm2d):
                m.momentum = 0.5
    for p, v in model.named_parameters():
        if "layer_scale" in p or p.endswith("gamma"):
            nn.init.uniform_(v, 0.5, 1.0)
        if "class_token" in p or "pos_embedding" in p:
            nn.init.normal_(v, std=0.5)
    if any(isinstance(m, nn.BatchNorm2d) for m in model.modules()):
        model.train()
        with torch.no_grad():
            for m in model.modules():
                if isinstance(m, nn.Dropout):
                    m.p = 0.0
            for _ in range(3):
                model(sample(shape, 4, rng))
    return model.eval(), shape, rng


def export(model, x, path, how):
    if how == "dynamo":
        torch.onnx.export(
            model, (x,), path, dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False
        )
    else:
        torch.onnx.export(
            model,
            (x,),
            path,
            dynamo=False,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
        )


def check(bitc, folder, name, how, model, shape, rng):
    stem = f"{folder}/{name}.{how}"
    if not os.path.exists(stem + ".onnx"):
        try:
            export(model, sample(shape, 2, rng), stem + ".onnx", how)
        except Exception as e:
            return "no export: " + str(e).strip().splitlines()[0][:100]
    call = lambda *args: subprocess.run([bitc, *args], capture_output=True, text=True)
    t = time.time()
    r = call("compile", stem + ".onnx", "-o", stem + ".bit", "--quiet")
    t = time.time() - t
    if r.returncode:
        return f"REFUSED ({r.returncode}) " + r.stderr.strip()[:600]
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(stem + ".onnx", options, providers=["CPUExecutionProvider"])
    worst, flat = 0.0, 1e9
    for batch in (1, 3):
        x = sample(shape, batch, rng).numpy()
        np.save(stem + ".x.npy", x)
        want = session.run(None, {session.get_inputs()[0].name: x})
        r = call("run", stem + ".bit", "--input", stem + ".x.npy", "--output", stem + ".out", "--quiet")
        if r.returncode:
            return f"FAILED ({r.returncode}) " + r.stderr.strip()[:600]
        for i, w in enumerate(want):
            y = np.load(f"{stem}.out/out{i}.npy")
            if y.shape != w.shape or y.dtype != w.dtype:
                return f"WRONG {y.dtype}{y.shape}, expected {w.dtype}{w.shape}"
            worst = max(worst, float(np.abs(y - w).max() / np.abs(w).max()))
            flat = min(flat, float(w.std(axis=-1).mean() / np.abs(w).max()))
    return f"{'ok   ' if worst <= 1e-4 else 'WRONG'} {worst:.1e} of the largest output (spread {flat:.2f}), compiled in {t:.1f} s"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bitc")
    parser.add_argument("folder")
    parser.add_argument("--only", default=".")
    args = parser.parse_args()
    os.makedirs(args.folder, exist_ok=True)
    bad = 0
    for name in MODELS:
        if not re.search(args.only, name):
            continue
        model, shape, rng = build(name)
        for how in ("dynamo", "script"):
            sys.stdout.flush()
            with open(os.devnull, "w") as null:
                out, sys.stdout = sys.stdout, null
                try:
                    said = check(args.bitc, args.folder, name, how, model, shape, rng)
                finally:
                    sys.stdout = out
            bad += not said.startswith("ok")
            print(f"{name:20} {how:7} {said}", flush=True)
    sys.exit(1 if bad else 0)


main()
