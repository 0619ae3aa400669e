"""The published SRGAN generator in NumPy, straight from its description, and made-up weights of its layout."""

import numpy as np


def state_dict(num_blocks=2, num_up=1, maps=8, size=3, seed=0):
    """Returns a made-up state dict of the published layout."""
    numbers, state = np.random.default_rng(seed), {}

    def conv(name, inputs, outputs, size):
        state[f"{name}.weight"] = numbers.normal(0, 1 / np.sqrt(inputs * size * size), (outputs, inputs, size, size)).astype(np.float32)
        state[f"{name}.bias"] = numbers.normal(0, 0.3, outputs).astype(np.float32)

    def slope(name):
        state[f"{name}.weight"] = numbers.uniform(-0.3, 0.3, 1).astype(np.float32)

    conv("block1.0", 3, maps, size)
    slope("block1.1")
    for block in range(2, num_blocks + 2):
        for part in (1, 2):
            conv(f"block{block}.conv{part}", maps, maps, 3)
            for name in ("weight", "bias", "running_mean", "running_var"):
                state[f"block{block}.bn{part}.{name}"] = numbers.uniform(0.2, 1, maps).astype(np.float32)
            state[f"block{block}.bn{part}.num_batches_tracked"] = np.int64(7)
        slope(f"block{block}.prelu")
    conv(f"block{num_blocks + 2}.0", maps, maps, 3)
    slope(f"block{num_blocks + 2}.1")
    for step in range(num_up):
        conv(f"block{num_blocks + 3}.{step}.conv", maps, 4 * maps, 3)
        slope(f"block{num_blocks + 3}.{step}.prelu")
    conv(f"block{num_blocks + 3}.{num_up}", maps, 3, size)
    return state


def forward(state, image):
    """Returns (s h, s w, 3) float64 in 0..1 of image (h, w, 3) in 0..1."""
    state = {name: np.asarray(array, np.float64) for name, array in state.items()}
    num_blocks = sum(name.endswith(".conv1.weight") for name in state)

    def conv(x, name):
        weight = state[f"{name}.weight"]
        pad, size = weight.shape[-1] // 2, weight.shape[-1]
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((pad, pad), (pad, pad), (0, 0))), (size, size), (0, 1))
        return np.tensordot(windows, weight, ((2, 3, 4), (1, 2, 3))) + state[f"{name}.bias"]

    def prelu(x, name):
        return np.where(x > 0, x, state[f"{name}.weight"] * x)

    def norm(x, name):
        mean, variance, gain, shift = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return (x - mean) / np.sqrt(variance + 1e-5) * gain + shift

    def pixel_shuffle(x):
        y = np.empty((2 * x.shape[0], 2 * x.shape[1], x.shape[2] // 4))
        for row in (0, 1):
            for column in (0, 1):
                y[row::2, column::2] = x[..., 2 * row + column :: 4]
        return y

    x = first = prelu(conv(image, "block1.0"), "block1.1")
    for block in range(2, num_blocks + 2):
        y = prelu(norm(conv(x, f"block{block}.conv1"), f"block{block}.bn1"), f"block{block}.prelu")
        x = x + norm(conv(y, f"block{block}.conv2"), f"block{block}.bn2")
    x = first + prelu(conv(x, f"block{num_blocks + 2}.0"), f"block{num_blocks + 2}.1")
    step, tail = 0, f"block{num_blocks + 3}"
    while f"{tail}.{step}.conv.weight" in state:
        x = prelu(pixel_shuffle(conv(x, f"{tail}.{step}.conv")), f"{tail}.{step}.prelu")
        step += 1
    return (np.tanh(conv(x, f"{tail}.{step}")) + 1) / 2
