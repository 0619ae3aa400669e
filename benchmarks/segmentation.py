"""Latency of U-Nets, on the device and from PNG to mask PNG, and their training step; with --peer beside the same in PyTorch.

python -m benchmarks.segmentation --rows=512x512/16,1280x1024/16 --train --peer --json=FILE

A row is WIDTHxHEIGHT/BASE: one float32 frame of one channel, a U-Net of depth 4 with batch norm and two maps, random weights. GFLOP
are counted on shapes; the peak is that of a large matrix product of the same type measured in the same run. Where PyTorch is compared the
outputs are first held against each other. On a GPU also bfloat16.
"""

import argparse
import os
import re
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import timing
from microscopy.atomic import write_json
from microscopy.formats import decode_image
from microscopy.pictures import encode_png
from segmentation import losses
from segmentation.networks import UNet
from training import cost, devices, forecast
from training import workdir as workdirs
from training.errors import ConfigError

ROWS = "512x512/16,512x512/32,512x512/64,1280x1024/16,1280x1024/32"
RATE = 1e-4
TOLERANCE = 1e-3
"""Of the largest output: two float32 sums of thousands of products in another order."""


def rows(text: str) -> list[tuple[int, int, int]]:
    """Returns (width, height, base) of rows "WIDTHxHEIGHT/BASE", separated by commas; ConfigError for one that cannot be."""
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,5})x(\d{1,5})/(\d{1,3})", part.strip())
        numbers = tuple(map(int, match.groups())) if match else (0, 0, 0)
        if 0 in numbers or numbers[0] % 16 or numbers[1] % 16:
            raise ConfigError(f"--rows: {part!r} is not WIDTHxHEIGHT/BASE with sizes that are multiples of 16, as 512x512/16.")
        found.append(numbers)
    return found


def variables(model: UNet, seed: int):
    """Returns random variables of a U-Net for one channel: He's weights, batch statistics away from 0 and 1."""
    made = model.init(jax.random.key(seed), jnp.zeros((1, 16, 16, 1)), False)
    stats = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.uniform(jax.random.key(seed + 1), leaf.shape), made.get("batch_stats", {}))
    return {"params": made["params"], "batch_stats": stats}


def network(base: int, dtype) -> UNet:
    """Returns the U-Net that is timed: two maps, depth 4, batch norm."""
    return UNet(num_maps=2, base_width=base, depth=4, norm="batch", dtype=dtype)


def latency(row: tuple[int, int, int], rounds: int, peer: bool, peak: float, dtype=jnp.float32) -> dict:
    """Returns and prints the milliseconds a frame on the device and end to end, GFLOP, share of `peak` (FLOP/s) and ratios."""
    width, height, base = row
    model = network(base, dtype)
    values = variables(model, 0)
    png = encode_png(np.random.default_rng(0).integers(0, 256, (height, width), np.uint8))
    frame = jnp.asarray(_scaled(decode_image(png, "frame", max_pixels=width * height)))
    forward = jax.jit(lambda values, image: model.apply(values, image, False))
    mask = jax.jit(lambda values, image: (jnp.diff(model.apply(values, image, False)) > 0)[0, ..., 0].astype(jnp.uint8) * 255)

    def whole():
        image = _scaled(decode_image(png, "frame", max_pixels=width * height))
        return encode_png(np.asarray(mask(values, image)))

    calls = {"device": lambda: forward(values, frame).block_until_ready(), "end to end": whole}
    theirs, notes = _peer_latency(model, values, png, np.asarray(calls["device"]()), row) if peer else ({}, [])
    measured = timing.interleaved(calls | theirs, rounds)
    gflop = cost.gflop(forward, values, frame)
    parts = {name: timing.summary(seconds) for name, seconds in measured.items()}
    share = 1e12 * gflop / parts["device"]["median_ms"] / peak
    figures = {"width": width, "height": height, "base": base, "dtype": jnp.dtype(dtype).name, "gflop": gflop, "share_of_peak": share}
    figures |= {"parts": parts, "ratios": ratios(measured, ("device", "end to end")), "notes": notes}
    print(f"{width}x{height} base {base} {figures['dtype']}: {gflop:.1f} GFLOP, {100 * share:.0f} % of the peak on the device")
    report(figures)
    return figures


def _scaled(pixels: np.ndarray) -> np.ndarray:
    return (pixels.astype(np.float32) / 127.5 - 1)[None, ..., None]


def ratios(measured: dict, ours: tuple[str, ...]) -> dict:
    """Returns peer's name -> peer/ours, a peer "NAME, PyTorch ..." against ours of that name."""
    return {name: timing.ratio(measured[name], measured[name.partition(", PyTorch")[0]]) for name in measured if name not in ours}


def report(figures: dict) -> None:
    """Prints a line for each part with its ratio, and the notes."""
    for name, part in figures["parts"].items():
        ratio = f"; {timing.ratio_text(figures['ratios'][name])}" if name in figures["ratios"] else ""
        print(f"  {name}: {part['median_ms']:.4g} ms (least {part['min_ms']:.4g}){ratio}", flush=True)
    for note in figures["notes"]:
        print(f"  {note}")


def agree(ours: np.ndarray, theirs: np.ndarray, tolerance: float = TOLERANCE) -> None:
    """Raises SystemExit where the outputs differ by more than `tolerance` of the largest."""
    difference, scale = np.abs(ours - theirs).max(), np.abs(theirs).max()
    if not difference <= tolerance * scale:
        raise SystemExit(f"ours differs from PyTorch by {difference:.3g}, values are up to {scale:.3g}: speeds of different things")


def _peer_latency(model, values, png, ours, row):
    import torch

    from benchmarks import torch_side, torch_unet

    calls, half = {}, model.dtype == jnp.bfloat16
    torch.compiler.reset()  # it compiles a module's code a few times only, and then leaves further sizes as they are
    for layout in ("", ", channels last"):
        for way in ("eager", "compiled"):
            net = torch_side.placed(torch_unet.make(model, values, 1), bool(layout))
            run = torch.compile(net) if way == "compiled" else net
            calls |= _peer_calls(torch, torch_side, run, png, bool(layout), f"PyTorch {way}{layout}", half, row)
    running, notes = torch_side.working(calls)
    for name, call in running.items():
        if name.startswith("device"):
            agree(ours, torch_side.to_flax(call()), 3e-2 if half else TOLERANCE)
    return running, notes


def _peer_calls(torch, torch_side, run, png, channels_last, name, half, row):
    image = torch_side.from_flax(_scaled(decode_image(png, "frame", max_pixels=row[0] * row[1])), channels_last)

    def forward(image):
        with torch.inference_mode(), torch.autocast(torch_side.device(), torch.bfloat16, enabled=half):
            return run(image)

    def device():
        logits = forward(image)
        torch_side.wait()
        return logits

    def whole():
        pixels = _scaled(decode_image(png, "frame", max_pixels=row[0] * row[1]))
        logits = forward(torch_side.from_flax(pixels, channels_last))
        return encode_png(((logits[0, 1] > logits[0, 0]).to(torch.uint8) * 255).cpu().numpy())

    return {f"device, {name}": device, f"end to end, {name}": whole}


def training(rounds: int, peer: bool, base: int = 16, batch: int = 4, side: int = 256) -> dict:
    """Returns and prints the milliseconds of a step of Adam on cross entropy, `batch` crops of side x side px."""
    model, optimizer, random = network(base, jnp.float32), optax.adam(RATE), np.random.default_rng(0)
    values = variables(model, 0)
    image = jnp.asarray(random.uniform(-1, 1, (batch, side, side, 1)), jnp.float32)
    labels = jnp.asarray(random.integers(0, 2, (batch, side, side)), jnp.int32)

    def loss(params, stats, image, labels):
        logits, changed = model.apply({"params": params, "batch_stats": stats}, image, True, mutable=["batch_stats"])
        return losses.cross_entropy(logits, labels), changed["batch_stats"]

    @jax.jit
    def update(state, image, labels):
        params, stats, moments = state
        (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(params, stats, image, labels)
        changes, moments = optimizer.update(gradient, moments)
        return (optax.apply_updates(params, changes), stats, moments), value

    state = (values["params"], values["batch_stats"], optimizer.init(values["params"]))

    def step():
        nonlocal state
        state, value = update(state, image, labels)
        return jax.block_until_ready(value)

    first = np.asarray(update(state, image, labels)[1])
    theirs, notes = _peer_training(model, values, image, labels, first) if peer else ({}, [])
    measured = timing.interleaved({"step": step} | theirs, rounds)
    parts = {name: timing.summary(seconds) for name, seconds in measured.items()}
    figures = {"base": base, "batch_size": batch, "side": side, "parts": parts, "ratios": ratios(measured, ("step",)), "notes": notes}
    print(f"training step, base {base}, {batch} x {side}x{side}")
    report(figures)
    return figures


def _peer_training(model, values, image, labels, first):
    import torch

    from benchmarks import torch_side, torch_unet

    calls, truth = {}, torch.from_numpy(np.array(labels)).long().to(torch_side.device())
    for layout in ("", ", channels last"):
        for way in ("eager", "compiled"):
            net = torch_side.placed(torch_unet.make(model, values, 1), bool(layout))
            pixels = torch_side.from_flax(np.asarray(image), bool(layout))
            calls[f"step, PyTorch {way}{layout}"] = torch_unet.train_step(net, RATE, pixels, truth, way == "compiled")
    agree(first, calls["step, PyTorch eager"]().cpu().numpy())
    return torch_side.working(calls)


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code after the figures asked for are printed, and written where --json=FILE is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=ROWS, help=f"frames to segment (default: {ROWS}); empty for none")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (default: 5)")
    parser.add_argument("--train", action="store_true", help="also the training step at base 16, 4 x 256x256")
    parser.add_argument("--peer", action="store_true", help="beside PyTorch, which must be installed")
    parser.add_argument("--json", default="", help="file the figures are written to")
    options = parser.parse_args(argv)
    try:
        asked = rows(options.rows) if options.rows else []
        figures = {"machine": devices.describe(), "num_cores": timing.num_cores(), **_peer_words(options.peer)}
    except ConfigError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    dtypes = [jnp.float32] if devices.on_cpu() else [jnp.float32, jnp.bfloat16]
    rates = [forecast.matmul_rate(2048, 5, dtype) for dtype in dtypes]
    figures["peak_gflop_per_second"] = {jnp.dtype(dtype).name: rate / 1e9 for dtype, rate in zip(dtypes, rates, strict=True)}
    peaks = ", ".join(f"{rate:.0f} GFLOP/s ({name})" for name, rate in figures["peak_gflop_per_second"].items())
    print(f"{figures['machine']}. {figures.get('peer', '')} Peak of a 2048 x 2048 product: {peaks}.")
    kinds = list(zip(rates, dtypes, strict=True))
    figures["latency"] = [latency(row, options.rounds, options.peer, *kind) for row in asked for kind in kinds]
    figures["training"] = training(options.rounds, options.peer) if options.train else None
    if options.json:
        write_json(options.json, {"command": sys.argv[1:] if argv is None else argv, **workdirs.environment(), **figures})
    return 0


def _peer_words(peer: bool) -> dict[str, str]:
    if not peer:
        return {}
    try:
        from benchmarks import torch_side
    except ImportError as error:
        raise ConfigError(f"--peer needs PyTorch: {error}.\nInstall it (pip install torch), or measure without --peer.") from error
    return {"peer": torch_side.prepare()}


if __name__ == "__main__":
    sys.exit(main())
