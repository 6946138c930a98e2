"""DiffLUT models in plain torch: what the library computes in eval mode, to make fixtures and random checks."""
import itertools, math
import torch
import torch.nn.functional as F

NODES = ["probabilistic", "dwn", "dwn_stable", "hybrid", "linear_lut", "polylut", "neurallut", "warp", "fourier", "difflogic"]
ENCODERS = ["thermometer", "gaussian_thermometer", "distributive_thermometer", "binary", "gray", "onehot", "sign_magnitude", "logarithmic"]

# ---- encoders
def fit(kind, bits, x, g):
    F_ = x.shape[1]; lo, hi = x.min(0).values, x.max(0).values
    if kind == "thermometer":
        b = torch.arange(1, bits + 1, dtype=torch.float32)
        return {"thresholds": lo[:, None] + b * (hi - lo)[:, None] / (bits + 1)}
    if kind == "gaussian_thermometer":
        q = torch.distributions.Normal(0., 1.).icdf(torch.arange(1, bits + 1, dtype=torch.float32) / (bits + 1))
        return {"thresholds": x.mean(0)[:, None] + q * x.std(0)[:, None]}
    if kind == "distributive_thermometer":
        s = x.sort(0).values; n = len(x)
        return {"thresholds": torch.stack([s[int(n * (b + 1) / (bits + 1))] for b in range(bits)], 1)}
    if kind in ("binary", "gray"):
        return {"min_value": lo, "max_value": hi}
    if kind == "onehot":
        return {"bin_edges": torch.stack([torch.linspace(float(l), float(h), bits + 1) for l, h in zip(lo, hi)])}
    if kind == "sign_magnitude":
        return {"max_abs_value": x.abs().max(0).values}
    if kind == "logarithmic":
        off = torch.where(lo <= 0, -lo + 1e-3, torch.zeros_like(lo))
        L = torch.log(x + off + 1e-8) / torch.log(torch.tensor(2.0))
        return {"offset": off, "min_log": L.min(0).values, "max_log": L.max(0).values}

def bits_of(i, bits):
    return torch.stack([(i >> (bits - 1 - b)) & 1 for b in range(bits)], -1).float()

def encode(kind, bits, st, x, base=2.0):
    if "thermometer" in kind:
        e = (x[:, :, None] > st["thresholds"]).float()
    elif kind in ("binary", "gray"):
        v = torch.clamp((x - st["min_value"]) / (st["max_value"] - st["min_value"] + 1e-8), 0, 1)
        i = (v * (2 ** bits - 1)).long()
        e = bits_of(i ^ (i >> 1) if kind == "gray" else i, bits)
    elif kind == "onehot":
        idx = torch.stack([torch.bucketize(x[:, f].contiguous(), st["bin_edges"][f, 1:-1].contiguous()) for f in range(x.shape[1])], 1)
        e = F.one_hot(idx.clamp(0, bits - 1), bits).float()
    elif kind == "sign_magnitude":
        m = (torch.clamp(x.abs() / (st["max_abs_value"] + 1e-8), 0, 1) * (2 ** (bits - 1) - 1)).long()
        e = torch.cat([(x < 0).float()[..., None], bits_of(m, bits - 1)], -1)
    elif kind == "logarithmic":
        L = torch.log(x + st["offset"] + 1e-8) / torch.log(torch.tensor(base))
        v = torch.clamp((L - st["min_log"]) / (st["max_log"] - st["min_log"] + 1e-8), 0, 1)
        e = bits_of((v * (2 ** bits - 1)).long(), bits)
    return torch.clamp(e.reshape(len(x), -1), 0, 1)

# ---- nodes: parameters and the answers on bits [B, n]
def make_node(kind, n, g):
    r = lambda *s: torch.randn(*s, generator=g)
    if kind == "probabilistic": return {"raw_weights": r(2 ** n, 1), "temperature": torch.tensor(0.7)}
    if kind == "dwn": return {"luts": torch.rand(1, 2 ** n, generator=g)}
    if kind in ("dwn_stable", "hybrid"): return {"raw_luts": r(1, 2 ** n)}
    if kind == "linear_lut": return {"weights": r(n, 1), "bias": r(1)}
    if kind == "polylut":
        E = torch.tensor([e for e in itertools.product(range(3), repeat=n) if sum(e) <= 2])
        return {"weights": r(len(E), 1), "exponent_matrix": E.float() if int(torch.randint(0, 2, (1,), generator=g)) else E}
    if kind == "neurallut":
        d, w = 4, 5; p = {}
        for k in range(d):
            o, i = (1 if k == d - 1 else w), (n if k == 0 else w)
            p[f"layers.{k}.weight"] = r(o, i); p[f"layers.{k}.bias"] = r(o)
        p["skip_layers.0.weight"] = r(w, n); p["skip_layers.0.bias"] = r(w)
        return p
    if kind == "warp": return {"coefficients": r(2 ** n, 1), "temperature": torch.tensor(1.0)}
    if kind == "fourier":
        K = torch.tensor(list(itertools.product([0., .5], repeat=n)))
        return {"amplitudes": torch.rand(len(K), 1, generator=g), "phases": torch.rand(len(K), 1, generator=g) * 6.28, "bias": torch.full((1,), .5), "frequencies": K}
    if kind == "difflogic":
        idx = torch.randperm(n, generator=g)[:2][None]
        return {"weights": r(1, 16), "indices": idx, "truth_tables": torch.tensor([[(f >> j) & 1 for j in range(4)] for f in range(16)]).float()}

def node(kind, p, x, s):
    n = x.shape[1]; sig = lambda z: (torch.sigmoid(z) >= .5).float()
    addr = lambda: (x * 2.0 ** torch.arange(n)).sum(-1).long()
    if kind == "probabilistic": return sig(p["raw_weights"][addr()] / torch.clamp(p["temperature"], min=1e-6))[:, 0]
    if kind == "dwn": return (p["luts"][0][addr()] >= .5).float()
    if kind in ("dwn_stable", "hybrid"): return sig(p["raw_luts"][0][addr()])
    if kind == "linear_lut": return sig(x @ p["weights"] + p["bias"])[:, 0]
    if kind == "polylut":
        E = p["exponent_matrix"].float(); b = x[:, None, :]
        m = torch.where((b == 0) & (E == 0), torch.ones(()), b ** E).prod(-1)
        return sig(m @ p["weights"])[:, 0]
    if kind == "neurallut":
        act = {"relu": F.relu, "sigmoid": torch.sigmoid, "leakyrelu": lambda v: F.leaky_relu(v, .01)}[s.get("activation", "relu")]
        z = x; d = sum(k.startswith("layers.") and k.endswith("weight") for k in p)
        for k in range(d):
            z = F.linear(z, p[f"layers.{k}.weight"], p[f"layers.{k}.bias"])
            if k == 2: z = z + F.linear(x, p["skip_layers.0.weight"], p["skip_layers.0.bias"])
            if k < d - 1: z = act(z)
        return sig(z)[:, 0]
    if kind == "warp":
        w = 2 * x - 1; S = torch.tensor([[(k >> j) & 1 for j in range(n)] for k in range(2 ** n)]).bool()
        l = torch.where(S[None], w[:, None, :], torch.ones(())).prod(-1) @ p["coefficients"]
        return ((torch.sign(l) + 1) / 2)[:, 0]
    if kind == "fourier":
        b = (x > .5).float(); A = p["amplitudes"] / (p["amplitudes"].sum(0) + 1e-8) * s.get("max_amplitude", .5)
        c = torch.cos(2 * math.pi * (b @ p["frequencies"].T)[..., None] + p["phases"])
        return torch.clamp((A * c).sum(1) + p["bias"], 0, 1)[:, 0]
    if kind == "difflogic":
        a, b = (x[:, int(i)].long() for i in p["indices"][0])
        if s.get("discretize"): return p["truth_tables"][p["weights"].argmax()][2 * a + b]
        raise NotImplementedError

def make_mapping(i, w, n, g, dtype):
    need = []
    while len(need) < w * n: need += torch.randperm(i, generator=g).tolist()
    return torch.tensor(need[:w * n]).reshape(w, n).to(dtype)

class Layer:
    def __init__(s, i, w, n, kind, learnable, g, dtype=torch.int16, mapping=None):
        s.kind, s.n, s.w, s.learnable = kind, n, w, learnable
        s.nodes = [make_node(kind, n, g) for _ in range(w)]
        if learnable:
            s.W = torch.randn(w * n, i, generator=g); s.mapping = s.W.argmax(1).reshape(w, n)
        else: s.mapping = make_mapping(i, w, n, g, dtype) if mapping is None else mapping
    def __call__(s, x, st):
        return torch.stack([node(s.kind, p, x[:, s.mapping[j].long()], st) for j, p in enumerate(s.nodes)], 1)
    def state(s, prefix):
        d = {f"{prefix}.mapping.W": s.W} if s.learnable else {f"{prefix}._mapping_indices": s.mapping}
        for j, p in enumerate(s.nodes):
            for k, v in p.items(): d[f"{prefix}.nodes.{j}.{k}"] = v.clone()
        return d

class Conv:
    """trees[t][l]; with `chunk`, the first levels are joined in layers of so many trees."""
    def __init__(s, cin, cout, k, stride, pad, depth, n, kind, learnable, g, chunk=None, share=True):
        s.k, s.stride, s.pad, s.cout, s.chunk = k, stride, pad, cout, chunk
        hidden = [n ** (depth - i) for i in range(depth + 1)]; s.hidden = hidden
        patch = cin * k * k; common = {}
        def layer(i, w):
            m = None
            if share and not learnable: m = common.setdefault((i, w), make_mapping(i, w, n, g, torch.int16))
            return Layer(i, w, n, kind, learnable, g, mapping=m)
        if chunk:
            s.chunks = [layer(patch, hidden[0] * (min(c + chunk, cout) - c)) for c in range(0, cout, chunk)]
        s.trees = [[layer(patch if l == 0 else hidden[l - 1], hidden[l]) for l in range(1 if chunk else 0, depth + 1)] for _ in range(cout)]
    def __call__(s, x, st):
        B = len(x); p = F.unfold(x, s.k, padding=s.pad, stride=s.stride); P = p.shape[2]
        p = p.transpose(1, 2).reshape(-1, p.shape[1])
        if s.chunk: first = torch.cat([c(p, st) for c in s.chunks], 1).reshape(len(p), s.cout, s.hidden[0])
        out = []
        for t, tree in enumerate(s.trees):
            y = first[:, t] if s.chunk else p
            for l in tree: y = l(y, st)
            out.append(y)
        y = torch.cat(out, 1).view(B, P, s.cout).transpose(1, 2)
        st_ = s.stride if isinstance(s.stride, (list, tuple)) else (s.stride,) * 2
        pd = s.pad if isinstance(s.pad, (list, tuple)) else (s.pad,) * 2
        return y.reshape(B, s.cout, (x.shape[2] + 2 * pd[0] - s.k) // st_[0] + 1, (x.shape[3] + 2 * pd[1] - s.k) // st_[1] + 1)
    def state(s, prefix):
        d = {}
        if s.chunk:
            for c, l in enumerate(s.chunks): d |= l.state(f"{prefix}.first_layer_chunks.{c}")
        for t, tree in enumerate(s.trees):
            for l, layer in enumerate(tree): d |= layer.state(f"{prefix}.trees.{t}.{l}")
        return d

def fake_image(e, C, k):
    enc = e.shape[1]; px = k + 2 + enc // C; h = w = int(px ** .5) + 1
    while h * w * C < enc: h += 1
    z = torch.zeros(len(e), h * w * C); z[:, :enc] = e
    return z.view(len(e), C, h, w)

def group_sum(x, k, tau):
    G = -(-x.shape[1] // k); x = F.pad(x, (0, G * k - x.shape[1]))
    return x.view(len(x), k, G).sum(-1) / torch.tensor(tau)
