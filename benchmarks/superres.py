"""How fast SRGAN enlarges 64 px to its scale and trains, and with --peer the same networks in PyTorch beside it.

python -m benchmarks.superres --config=configs/srgan.py --what=forward --batches=1,16 --peer
python -m benchmarks.superres --config=configs/srgan.py:cpu --what=train --peer

The training step is the adversarial one on a fixed batch, with VGG's content loss where --config.train.vgg=FILE is given.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import command, segmentation, timing
from superres import srgan
from training import cost, devices
from training import workdir as workdirs
from training.errors import ConfigError

SIDE = 64


def main(argv: list[str]) -> int:
    """Returns the exit code after the figures asked for are printed, and written where --json=FILE is given."""
    values = command.declare(argv)
    flags.DEFINE_enum("what", "forward", ("forward", "train"), "What to time.", flag_values=values)
    flags.DEFINE_bool("peer", False, "Also the same in PyTorch, which must be installed.", flag_values=values)
    flags.DEFINE_integer("rounds", 5, "Timed rounds.", flag_values=values)
    flags.DEFINE_list("batches", ["1", "16"], "Images a call (forward).", flag_values=values)
    return command.run(argv, values, __doc__, _measure)


def _measure(values) -> dict:
    command.at_least("rounds", values.rounds, 1)
    config = values.config.copy_and_resolve_references()
    if config.task != "superres.srgan":
        raise ConfigError(f"--config: {config.name} is of the task {config.task}; give one of superres.srgan.")
    with config.unlocked():
        config.train.phase = "adversarial"
    if not all(size.isdecimal() and int(size) for size in values.batches):
        raise ConfigError(f"--batches={','.join(values.batches)}: numbers above 0, separated by commas.")
    peer = _peer(config) if values.peer else None
    print(f"{config.name}, {config.model.num_blocks} blocks of {config.model.num_maps} maps. {devices.describe()}. {peer or ''}")
    task = srgan.make_task(config)
    state = task.init(jax.random.key(config.seed), None)
    if values.what == "train":
        rows = [train(config, task, state, values.rounds, bool(peer))]
    else:
        rows = [forward(config, state, int(size), values.rounds, bool(peer)) for size in values.batches]
    return {"what": values.what, "config": workdirs.plain(config), "peer": peer, "rows": rows}


def _peer(config) -> str:
    try:
        from benchmarks import torch_side, torch_srgan
    except ImportError as error:
        raise ConfigError(f"--peer needs PyTorch: {error}.\nInstall it (pip install torch), or measure without --peer.") from error
    torch_srgan.check(config)
    if devices.with_dtype(config).model.dtype != "float32":
        raise ConfigError("--peer compares in float32.\nAdd --config.model.dtype=float32.")
    return torch_side.prepare()


def forward(config, state, batch: int, rounds: int, peer: bool) -> dict:
    """Returns and prints the milliseconds of `batch` images of 64 px enlarged, GFLOP, images/s and ratios."""
    upscale, (params, stats) = srgan.make_upscale(config), srgan.inference(state)
    random = np.random.default_rng(0)
    low = jnp.asarray(random.uniform(-1, 1, (batch, SIDE, SIDE, config.data.channels)), jnp.float32)
    calls = {"forward": lambda: upscale(params, stats, low).block_until_ready()}
    theirs, notes = _peer_forward(config, params, stats, low, np.asarray(calls["forward"]())) if peer else ({}, [])
    gflop = cost.gflop(upscale, params, stats, low)
    return _figures(f"{batch} x {SIDE} px", "forward", timing.interleaved(calls | theirs, rounds), batch, notes) | {"gflop": gflop}


def _figures(title, name, measured, batch, notes) -> dict:
    parts = {part: timing.summary(seconds) for part, seconds in measured.items()}
    rate = 1e3 * batch / parts[name]["median_ms"]
    figures = {"batch_size": batch, "images_per_second": rate, "parts": parts}
    figures |= {"ratios": segmentation.ratios(measured, (name,)), "notes": notes}
    print(f"{title}: {rate:.3g} images/s")
    segmentation.report(figures)
    return figures


def _peer_forward(config, params, stats, low, ours):
    import torch

    from benchmarks import torch_side, torch_srgan

    calls = {}
    for layout in ("", ", channels last"):
        for way in ("eager", "compiled"):
            net = torch_side.placed(torch_srgan.generator(config, params, stats), bool(layout))
            net = torch.compile(net) if way == "compiled" else net
            image = torch_side.from_flax(np.asarray(low), bool(layout))

            def call(net=net, image=image):
                with torch.inference_mode():
                    enlarged = net(image)
                torch_side.wait()
                return enlarged

            calls[f"forward, PyTorch {way}{layout}"] = call
    running, notes = torch_side.working(calls)
    for call in running.values():
        segmentation.agree(ours, torch_side.to_flax(call()))
    return running, notes


def train(config, task, state, rounds: int, peer: bool) -> dict:
    """Returns and prints the milliseconds of the adversarial step on one batch of random crops, images/s and ratios."""
    data, batch, update = config.data, config.train.batch_size, jax.jit(task.train_step, donate_argnums=0)
    random = np.random.default_rng(0)
    high = jnp.asarray(random.uniform(-1, 1, (batch, data.height, data.width, data.channels)), jnp.float32)
    frozen, key = jax.tree.map(jnp.asarray, task.frozen), jax.random.key(0)
    held = jax.device_get(state)
    state, scalars = update(state, frozen, {"image": high}, key)

    def step():
        nonlocal state
        state, scalars = update(state, frozen, {"image": high}, key)
        jax.block_until_ready((state, scalars))

    theirs, notes = _peer_train(config, held, high, frozen, np.asarray(scalars["generator/loss"])) if peer else ({}, [])
    content = "with VGG's content loss" if frozen else "without content loss"
    title = f"training step, {batch} x {data.width}x{data.height} px, {content}"
    return _figures(title, "step", timing.interleaved({"step": step} | theirs, rounds), batch, notes) | {"content": bool(frozen)}


def _peer_train(config, state, high, frozen, ours):
    import torch

    from benchmarks import torch_side, torch_srgan

    reduce, (height, width) = srgan.REDUCTIONS[config.model.reduction], srgan.low_sizes(config)[0]
    rows = reduce(jnp.eye(high.shape[1])[None, :, :, None], height, high.shape[1])[0, :, :, 0]
    columns = reduce(jnp.eye(high.shape[2])[None, :, :, None], width, high.shape[2])[0, :, :, 0]
    calls = {}
    for layout in ("", ", channels last"):
        for way in ("eager", "compiled"):
            made = torch_srgan.generator(config, state.generator.params, state.generator.stats)
            nets = [torch_side.placed(net, bool(layout)) for net in (made, torch_srgan.discriminator(config, state.discriminator.params))]
            nets = [torch.compile(net) if way == "compiled" else net for net in nets]
            image = torch_side.from_flax(np.asarray(high), bool(layout))
            arguments = (image, (np.asarray(rows), np.asarray(columns)), frozen, way == "compiled")
            calls[f"step, PyTorch {way}{layout}"] = torch_srgan.train_step(config, nets, *arguments)
    segmentation.agree(ours, calls["step, PyTorch eager"]().cpu().numpy())
    return torch_side.working(calls)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
