"""How fast a config trains and generates here, and with --peer the same networks in PyTorch beside it.

python -m benchmarks.throughput --config=configs/dcgan96.py:cpu --what=train --peer
python -m benchmarks.throughput --config=configs/dcgan96.py:cpu --what=generate --peer
python -m benchmarks.throughput --config=configs/dcgan96.py:cpu --what=profile --peer

Training is timed for every config, stage by stage where it has stages; generation for methods that generate; peers are DCGAN's, the
class-conditional WGAN's and the classifier's; the profile is DCGAN's. docs/performance.md says what is timed and how to read it.
"""

import contextlib
import dataclasses
import importlib
import os
import pathlib
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import jax
import numpy as np
from absl import flags

import input_pipeline
from benchmarks import command, layers, timing
from microscopy import fields
from training import devices, generation, loop
from training import workdir as workdirs
from training.errors import ConfigError

DCGAN, WGAN = "gan.dcgan", "gan.wgan"
PEERS = {DCGAN: "torch_peer", WGAN: "torch_wgan_steps", "classification.classifier": "torch_classifier"}
"""config.task to the module of benchmarks that has its networks in PyTorch."""
OTHERS = ("superres", "segmentation")
"""Rooms whose networks have a benchmark of their own, with a peer."""


def main(argv: list[str]) -> int:
    """Returns the exit code after the figures asked for are printed, and written where --json=FILE is given."""
    values = command.declare(argv)
    flags.DEFINE_enum("what", "train", ("train", "generate", "profile"), "What to time.", flag_values=values)
    flags.DEFINE_bool("peer", False, "Also the same in PyTorch, which must be installed.", flag_values=values)
    flags.DEFINE_integer("steps", 20, "Timed steps (train), chunks (generate) or rounds (profile).", flag_values=values)
    return command.run(argv, values, __doc__, _measure)


def _measure(values) -> dict:
    command.at_least("steps", values.steps, 1)
    config, figures = values.config, {"what": values.what, "config": workdirs.plain(values.config)}
    stages = _stages(config)
    for one in stages.values():
        _check(one, values)
        peer = torch_peer(one) if values.peer else None
    measure, parts = {"train": train, "generate": generate, "profile": layers.profile}[values.what], {}
    for name, one in stages.items():
        filters = f", {one.model.base_filters} base filters" if "base_filters" in one.model else ""
        print(f"{config.name}{name}: {one.data.width} x {one.data.height} px{filters}. {devices.describe()}.")
        parts[name.strip()] = measure(one, values.steps, peer)
    figures |= {"stages": parts} if "stages" in config else parts[""]
    return figures | ({"peer": peer.describe(one)} if peer else {})


def _stages(config) -> dict:
    """{" NAME": config} of a run over stages, else {"": config}."""
    if "stages" not in config:
        return {"": config}
    if not all(name in config.stages and "train" in config.stages[name] for name in config.order):
        raise ConfigError(f"--config={config.name}: {config.task} makes its trainings as it goes; measure the config of one of them.")
    return {f" {name}": config.stages[name] for name in config.order}


def _check(config, values) -> None:
    """Refuses what the config's method has nothing to measure for, before PyTorch is looked for."""
    method = loop.method(config)
    wanting = {
        "--what=generate": values.what == "generate" and not hasattr(method, "generate"),
        "--what=profile": values.what == "profile" and config.task != DCGAN,
        "--peer": values.peer and config.task not in PEERS,
    }
    for flag, refused in wanting.items():
        if refused:
            room = config.task.partition(".")[0]
            other = f"python -m benchmarks.{room} measures these networks." if room in OTHERS else "--what=train without --peer times it."
            raise ConfigError(f"{flag}: benchmarks.throughput has none for config.task={config.task}.\n{other}")


def torch_peer(config):
    """Returns the task's module of `PEERS`, which needs PyTorch; ConfigError where that is absent or has no such networks."""
    try:
        peer = importlib.import_module(f"benchmarks.{PEERS[config.task]}")
    except ImportError as error:
        raise ConfigError(f"--peer needs PyTorch: {error}.\nInstall it (pip install torch), or measure without --peer.") from error
    peer.check(config)
    return peer


def train(config, steps: int, peer=None) -> dict:
    """Returns and prints the time of a training step as the loop runs it, of its parts, and of the peer's step.

    The loop's own compiled call: on accelerators `config.train.steps_per_call` steps each, on a CPU one. With a peer both
    compute on one device and the parameters they begin with are the same.
    """
    mesh = devices.make_mesh(config.train.batch_size, jax.devices()[:1] if peer else None)
    prepared = input_pipeline.prepare(config)
    data, task = input_pipeline.make_data(config, prepared), loop.for_scans(loop.method(config).make_task(config), prepared)
    keys = loop.Keys(*jax.random.split(jax.random.key(config.seed), 4))
    state, arrays = (devices.replicate(mesh, tree) for tree in (task.init(keys.init, None), data.arrays))
    sample = jax.jit(data.sample)
    batch = sample(arrays, keys.data)
    fixed = dataclasses.replace(data, arrays=batch, sample=lambda arrays, key: arrays)
    frozen, num = devices.replicate(mesh, task.frozen), 1 if devices.on_cpu() else config.train.steps_per_call
    call = loop.make_call(task, data, mesh)
    compiled, seconds = _compiled(call, state, arrays, frozen, keys, num)
    with_fixed, _ = _compiled(loop.make_call(task, fixed, mesh), state, batch, frozen, keys, num)
    calls = {
        "step": _stepping(compiled, state, arrays, frozen, keys),
        "fixed batch": _stepping(with_fixed, state, batch, frozen, keys),
        "sample": timing.repeated(lambda: jax.block_until_ready(sample(arrays, keys.data)), num),
    }
    theirs, notes = peer.steps(config, prepared, jax.device_get(state), jax.device_get(batch), num) if peer else ({}, [])
    rounds = max(3, -(-steps // num))
    measured = timing.interleaved(calls | theirs, rounds)
    flops = _flops(call.lower(state, arrays, frozen, keys, 1))
    facts = {"compile_seconds": seconds, "flops": flops, "num_devices": mesh.size, "notes": notes}
    return _train_figures(config, measured, num, rounds, facts)


def _compiled(call, state, arrays, frozen, keys, num):
    start = time.perf_counter()
    compiled = call.lower(state, arrays, frozen, keys, num).compile()
    return compiled, time.perf_counter() - start


def _stepping(compiled, state, arrays, frozen, keys):
    state = jax.tree.map(lambda leaf: leaf.copy(), state)  # each call donates its own

    def step():
        nonlocal state
        state, scalars = compiled(state, arrays, frozen, keys)
        jax.block_until_ready((state, scalars))

    return step


def _flops(lowered) -> float:
    cost = lowered.cost_analysis()
    return float((cost[0] if isinstance(cost, list) else cost or {}).get("flops", 0.0))


def _train_figures(config, measured, num, rounds, figures) -> dict:
    parts = {name: timing.summary(seconds, num) for name, seconds in measured.items()}
    step, batch_size = parts["step"]["median_ms"], config.train.batch_size
    shares = [1.0 - fixed / whole for fixed, whole in zip(measured["fixed batch"], measured["step"], strict=True)]
    figures |= {"batch_size": batch_size, "num_rounds": rounds, "steps_per_call": num, "parts": parts}
    figures |= {"images_per_second": 1e3 * batch_size / step, "data_share": float(np.median(shares))}
    rates = {name: f"{1e3 * batch_size / part['median_ms']:.1f} images/s" for name, part in parts.items()}
    figures["flops_per_second"] = 1e3 * figures["flops"] / step
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    print(f"compiling     {figures['compile_seconds']:.1f} s, {f'through the cache {cache}' if cache else 'no cache'}; not in what follows")
    print(f"a step        {_text(parts['step'])}, {rounds} calls of {num}; {figures['images_per_second']:.1f} images/s, batch {batch_size}")
    print(f"  fixed batch {_text(parts['fixed batch'])}, {rates['fixed batch']}: {100 * figures['data_share']:.1f} % of a step is data")
    print(f"  data alone  {_text(parts['sample'])}")
    work, rate = figures["flops"] / 1e9, figures["flops_per_second"] / 1e9
    print(f"arithmetic    {work:.2f} GFLOP a step as XLA counts them: {rate:,.0f} GFLOP/s on {figures['num_devices']} device(s)")
    peers = [name for name in measured if name not in ("step", "fixed batch", "sample")]
    figures["ratios"] = {name: timing.ratio(measured[name], measured["fixed batch"]) for name in peers}
    for name in peers:
        print(f"{name}: {_text(parts[name])}, {rates[name]}; {timing.ratio_text(figures['ratios'][name])}, ours with the fixed batch")
    for note in figures["notes"]:
        print(note)
    return figures


def _text(part) -> str:
    return f"{part['median_ms']:.4g} ms (least {part['min_ms']:.4g})"


def generate(config, steps: int, peer=None) -> dict:
    """Returns and prints images/s of the generator in chunks as `--mode=generate` computes them, without files and to PNG files.

    Images come back to the host as float32. The files go through training.generation, flushed to a temporary folder's disk.
    """
    method, prepared = loop.method(config), input_pipeline.prepare(config)
    task, size = loop.for_scans(method.make_task(config), prepared), method.CHUNK
    num_classes = (len(prepared.classes),) if config.task == WGAN else ()
    make_images, labels = method.make_inference(config, *num_classes), [np.arange(size) % num for num in num_classes]
    state = task.settle(task.init(jax.random.key(config.seed), None))
    params, stats = method.inference_params(state), state.generator.stats

    @jax.jit
    def noise(number):
        return jax.random.normal(jax.random.fold_in(jax.random.key(config.seed), number), (size, config.model.latent_dim))

    def chunk(number):
        return np.asarray(make_images(params, stats, noise(number), *labels))

    calls = {"chunk": lambda: chunk(0)}
    if peer:
        calls |= peer.chunks(config, prepared, jax.device_get(state), size)
    measured = timing.interleaved(calls, max(3, steps))
    parts = {name: timing.summary(seconds) for name, seconds in measured.items()}
    writing = _written(config, prepared, state, chunk, size, steps)
    figures = {"chunk": size, "num_rounds": max(3, steps), "parts": parts, "num_written": size * steps}
    figures |= {"images_per_second": 1e3 * size / parts["chunk"]["median_ms"], "images_per_second_png": size * steps / writing}
    figures["ratios"] = {name: timing.ratio(measured[name], measured["chunk"]) for name in list(measured)[1:]}
    print(f"a chunk of {size} {_text(parts['chunk'])}, {figures['num_rounds']} chunks: {figures['images_per_second']:.0f} images/s")
    print(f"to PNG files  {figures['images_per_second_png']:.0f} images/s over {size * steps} images")
    for name, value in figures["ratios"].items():
        print(f"{name}: {_text(parts[name])}; {timing.ratio_text(value)}, without files")
    return figures


def _written(config, prepared, state, chunk, size, steps) -> float:
    """Seconds that `--mode=generate` takes for `steps` chunks, from a workdir as training leaves it."""
    from training import checkpoints

    with tempfile.TemporaryDirectory() as folder:
        workdir = pathlib.Path(folder) / "run"
        workdir.mkdir()
        workdirs.describe(workdir, config, prepared.value_map)
        checkpoints.save(workdir, 0, state)
        request = generation.Request(size * steps, config.seed, str(pathlib.Path(folder) / "images"))
        start = time.perf_counter()
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            generation.write_images(workdir, request, chunk, chunk_size=size, step=0, label_kind=fields.label_kind(config.data))
        return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main(sys.argv))
