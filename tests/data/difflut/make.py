"""Makes the convolutional models of this folder: configuration, weights, images and what reference.py computes of them.

Needs torch, numpy, safetensors and pyyaml.
"""

import pathlib

import numpy as np
import torch
import yaml
from safetensors.torch import save_file

from reference import Conv, encode, fake_image, fit, group_sum

HERE = pathlib.Path(__file__).parent

# name, node type, encoder, bits, image, widths, window, stride, padding, depth, inputs per node, trees per chunk, learnable
MODELS = [
    ("trees", "probabilistic", "thermometer", 2, (1, 5, 4), [3, 2], 3, 1, 0, 1, 2, None, False),
    ("padded", "dwn", "gray", 3, (2, 4, 4), [2, 3], 3, [2, 1], [1, 2], 2, 2, None, False),
    ("chunks", "dwn_stable", "distributive_thermometer", 3, (3, 4, 5), [5, 2], 2, 1, 1, 1, 3, 2, False),
    ("learned", "linear_lut", "onehot", 3, (1, 4, 4), [4], 3, 2, 0, 0, 3, None, True),
]


def main():
    for seed, (name, node, encoder, bits, image, widths, k, stride, padding, depth, n, chunk, learnable) in enumerate(MODELS):
        generator = torch.Generator().manual_seed(seed)
        x = torch.rand(24, int(np.prod(image)), generator=generator)
        state = fit(encoder, bits, x, generator)
        y = fake_image(encode(encoder, bits, state, x), image[0], k)
        weights = {f"encoder.{key}": value for key, value in state.items()}
        channels = image[0]
        for i, width in enumerate(widths):
            layer = Conv(channels, width, k, stride, padding, depth, n, node, learnable, generator, chunk)
            y, channels = layer(y, {}), width
            weights |= layer.state(f"conv_layers.{i}")
        if chunk:
            y = y.mean((2, 3))
        y = group_sum(y.reshape(len(y), -1), 3, 2.0)
        windows = dict(conv_layer_widths=widths, conv_kernel_size=k, conv_stride=stride, conv_padding=padding, tree_depth=depth)
        config = dict(
            model_type="convolutional",
            layer_type="learnable" if learnable else "random",
            node_type=node,
            encoder_config=dict(name=encoder, num_bits=bits),
            node_input_dim=n,
            num_classes=3,
            input_size=list(image),
            seed=42,
            # One generation keeps the sizes of windows under `runtime`.
            **({} if chunk else windows),
            runtime=dict(output_tau=2.0, patch_chunk_size=100, **(windows if chunk else {})),
        )
        save_file({key: value.contiguous().clone() for key, value in weights.items()}, HERE / f"{name}.safetensors")
        (HERE / f"{name}.yaml").write_text(yaml.safe_dump(config, sort_keys=False, default_flow_style=None))
        np.save(HERE / f"{name}.input.npy", x.reshape(-1, *image).numpy())
        np.save(HERE / f"{name}.expected.npy", y.numpy())


if __name__ == "__main__":
    main()
