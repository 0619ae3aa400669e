"""The layers of the two networks one by one, forward and forward + backward: where a step's time goes."""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from benchmarks import timing
from gan.networks import NUM_BLOCKS, Downsample, Upsample
from training import devices

BLOCK_SECONDS = 0.03
"""A layer is called as often as fills this: one call alone would be lost in the clock and in waking threads."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer as the networks use it: `kind` dense, up, down or norm, input shape without batch, output channels or units."""

    name: str
    kind: str
    shape: tuple[int, ...]
    features: int
    bias: bool = False
    dropout: float = 0.0


def layers(config) -> list[Layer]:
    """Returns the layers of generator and discriminator in order, batch norm with what follows it as one."""
    data, model = config.data, config.model
    widths = [model.base_filters * 2**i for i in reversed(range(NUM_BLOCKS))]
    height, width = data.height // 2**NUM_BLOCKS, data.width // 2**NUM_BLOCKS
    found = [Layer("generator dense", "dense", (model.latent_dim,), height * width * widths[0])]
    for block, features in enumerate(widths):
        shape = (height * 2**block, width * 2**block, features)
        after = [*widths[1:], data.channels][block]
        found += [Layer(f"generator norm {block}", "norm", shape, features)]
        found += [Layer(f"generator up {block}", "up", shape, after, bias=block == NUM_BLOCKS - 1)]
    before = data.channels
    for block in range(NUM_BLOCKS):
        features, shape = model.base_filters * 2**block, (data.height // 2**block, data.width // 2**block)
        normalised = model.discriminator_norm == "batch" and block > 0
        found += [Layer(f"discriminator down {block}", "down", (*shape, before), features, bias=not normalised)]
        if normalised:
            half = (shape[0] // 2, shape[1] // 2, features)
            found += [Layer(f"discriminator norm {block}", "norm", half, features, dropout=model.dropout)]
        before = features
    return [*found, Layer("discriminator logit", "dense", (height * width * before,), 1, bias=True)]


def flax_layer(layer: Layer, model, dtype) -> nn.Module:
    """Returns the module of gan.networks for a layer; a norm with its leaky ReLU and dropout."""
    if layer.kind == "dense":
        return nn.Dense(layer.features, use_bias=layer.bias, dtype=dtype)
    if layer.kind == "up":
        return Upsample(layer.features, model.kernel_size, model.resize_convolution, layer.bias, dtype)
    if layer.kind == "down":
        return Downsample(layer.features, model.kernel_size, layer.bias, dtype)
    leak = functools.partial(nn.leaky_relu, negative_slope=model.leak)
    norm = nn.BatchNorm(use_running_average=False, dtype=dtype)
    return nn.Sequential([norm, leak, nn.Dropout(layer.dropout, deterministic=False)])


def ours(config, layer: Layer) -> tuple[Callable[[], None], Callable[[], None]]:
    """Returns calls that run one layer forward, and forward and backward: gradients of its parameters and of its input."""
    dtype = jnp.dtype(devices.with_dtype(config).model.dtype)
    module, key = flax_layer(layer, config.model, dtype), jax.random.key(0)
    x = jax.random.normal(key, (config.train.batch_size, *layer.shape), dtype)
    variables = jax.jit(module.init)({"params": key, "dropout": key}, x)

    def apply(params, x, key):
        return module.apply({**variables, "params": params}, x, rngs={"dropout": key}, mutable=["batch_stats"])[0]

    def both(params, x, key, cotangent):
        y, pull = jax.vjp(lambda params, x: apply(params, x, key), params, x)
        return y, pull(cotangent)

    forward, backward = jax.jit(apply), jax.jit(both)
    cotangent = jnp.ones_like(forward(variables["params"], x, key))
    return (
        lambda: jax.block_until_ready(forward(variables["params"], x, key)),
        lambda: jax.block_until_ready(backward(variables["params"], x, key, cotangent)),
    )


def profile(config, rounds: int, peer=None) -> dict:
    """Returns and prints a table of milliseconds a layer, forward and both ways (forward + backward), the peer's beside ours."""
    print(f"{'layer':22} {'input -> output':24}  forward" + ("    peer  ratio     both    peer  ratio" if peer else "     both") + "  (ms)")
    rows = []
    for layer in layers(config):
        calls = dict(zip(("forward", "both"), ours(config, layer), strict=True))
        if peer:
            calls |= dict(zip(("peer forward", "peer both"), peer.layer(config, layer), strict=True))
        times = {name: timing.repeats_for(call, BLOCK_SECONDS) for name, call in calls.items()}
        seconds = timing.interleaved({name: timing.repeated(call, times[name]) for name, call in calls.items()}, rounds)
        parts = {name: timing.summary(values, times[name])["median_ms"] for name, values in seconds.items()}
        rows.append({"layer": layer.name, "input": list(layer.shape), "features": layer.features, **parts})
        print(_line(layer.name, f"{'x'.join(map(str, layer.shape))} -> {layer.features}", parts), flush=True)
    sums = {name: sum(row[name] for row in rows) for name in parts}
    print(_line("sum", "", sums))
    return {"batch_size": config.train.batch_size, "num_rounds": rounds, "layers": rows, "sums": sums}


def _line(name, shape, parts) -> str:
    line = f"{name:22} {shape:24} "
    for which in ("forward", "both"):
        line += f"{parts[which]:9.3f}"
        if f"peer {which}" in parts:
            line += f"{parts[f'peer {which}']:8.3f}{parts[f'peer {which}'] / parts[which]:7.2f}"
    return line
