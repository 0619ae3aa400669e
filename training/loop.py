"""The training loop, the only one: any method's task, from the first start to the last report, interrupted at will."""

import importlib
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

import input_pipeline
from training import checkpoints, devices, forecast, lineage, logbook, report
from training import workdir as workdirs
from training.errors import ConfigError, RunError
from training.lock import workdir_lock
from training.signals import Stop


class Keys(NamedTuple):
    """Keys of everything random in a run: initial weights, batches, steps, and the fixed noise of pictures and scores."""

    init: jax.Array
    data: jax.Array
    step: jax.Array
    fixed: jax.Array


def method(config):
    """Returns the module that `config.task` names, such as gan.dcgan."""
    try:
        module = importlib.import_module(config.task)
        if not hasattr(module, "make_task"):
            raise ConfigError(f"config.task={config.task!r} has no make_task; gan.dcgan is one that has.")
        return module
    except ModuleNotFoundError as error:
        raise ConfigError(f"config.task={config.task!r}: no such method ({error}).") from error


def train(config, workdir, stop: Stop) -> dict:
    """Returns the final status after training from where the workdir stands to `config.train.num_steps`.

    A fresh workdir begins at step 0; any other goes on from its newest sound checkpoint, bit-identically. Raises
    ConfigError, RunError or DataError with what to mend; `stop.signal` set by a handler ends the run after a last save.
    """
    workdir = pathlib.Path(workdir)
    check_periods(config.train)
    mesh = devices.make_mesh(config.train.batch_size)
    task = method(config).make_task(config)
    workdirs.refuse_drift(workdir, config)
    prepared = input_pipeline.prepare(config)
    _introduce(config, prepared)
    if stop.signal is not None:
        return {"state": "interrupted", "step": 0}
    _make_folder(workdir)
    with workdir_lock(workdir):
        workdirs.refuse_drift(workdir, config)  # again: another run may have come and gone while the scans were read
        return _train(config, workdir, stop, task, prepared, mesh)


def _train(config, workdir, stop, task, prepared, mesh) -> dict:
    train_config, keys = config.train, Keys(*jax.random.split(jax.random.key(config.seed), 4))
    imported, upstream = _imported(config, workdir, checkpoints.steps(workdir))
    lineage.write(workdir, prepared.splits, upstream)
    workdirs.describe(workdir, config, prepared.value_map)
    data = input_pipeline.make_data(config, prepared)
    state, step = _begin(workdir, task, keys, imported, mesh)
    arrays, frozen = devices.replicate(mesh, data.arrays), devices.replicate(mesh, task.frozen)
    call = make_call(task, data, mesh)
    log = logbook.open_logbook(workdir, step=step, num_steps=train_config.num_steps, batch_size=train_config.batch_size)
    if step == 0:
        _warn(call, state, arrays, frozen, keys, config)
        _show_crops(log, data, keys, arrays, config)
    saved = step if checkpoints.steps(workdir) else None
    try:
        if step == 0:
            state = task.settle(state)
            log.images("samples", 0, task.preview(state, frozen, {}, keys.fixed))
        while step < train_config.num_steps and stop.signal is None:
            arrays = _refresh(data, arrays, step, mesh)
            num = 1 if devices.on_cpu() else train_config.steps_per_call - step % train_config.steps_per_call
            state, scalars = call(state, arrays, frozen, keys, num)
            jax.block_until_ready(scalars)
            step += num
            log.tick(step)
            due = {name: _due(step, train_config, name) for name in ("log", "preview", "save", "eval")}
            if any(due.values()):
                with log.paused():
                    state, saved = _maintain(due, step, state, frozen, scalars, task, data, keys, log, workdir, saved)
        return _finish(config, workdir, stop, step, state, frozen, task, data, keys, log, saved)
    except BaseException as error:
        state_word = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        log.status(state_word, step, checkpoint=saved, error=str(error) or type(error).__name__)
        raise
    finally:
        log.close()


def make_call(task, data, mesh):
    """Returns call(state, arrays, frozen, keys, num) -> (state, last step's scalars): `num` training steps, the state donated.

    The batch is a function of (seed, step): each step folds `state.step` into the keys. More than one step is a `lax.scan`.
    """

    def one(state, arrays, frozen, keys):
        batch = devices.split_batch(mesh, data.sample(arrays, jax.random.fold_in(keys.data, state.step)))
        return task.train_step(state, frozen, batch, jax.random.fold_in(keys.step, state.step))

    def several(state, arrays, frozen, keys, num):
        if num == 1:
            return one(state, arrays, frozen, keys)
        state, scalars = jax.lax.scan(lambda s, _: one(s, arrays, frozen, keys), state, length=num)
        return state, jax.tree.map(lambda values: values[-1], scalars)

    return jax.jit(several, static_argnums=4, donate_argnums=0)


def check_periods(train) -> None:
    """Raises ConfigError unless num_steps and every period are positive multiples of steps_per_call."""
    for name in ("num_steps", "log_every", "preview_every", "save_every", "eval_every"):
        value = train[name]
        if value < 1 or train.steps_per_call < 1 or value % train.steps_per_call:
            raise ConfigError(
                f"config.train.{name}={value} is no positive multiple of config.train.steps_per_call={train.steps_per_call}.\n"
                f"Change either; the next multiple is {max(1, -(-value // max(1, train.steps_per_call))) * max(1, train.steps_per_call)}."
            )


def _due(step, train, name) -> bool:
    return step % train[f"{name}_every"] == 0 or (step == train.num_steps and name != "preview")


def _maintain(due, step, state, frozen, scalars, task, data, keys, log, workdir, saved):
    """Everything between two calls: checks, scores, pictures, the log line, the checkpoint."""
    values = logbook.finite(step, jax.device_get(scalars))
    if due["preview"] or due["save"] or due["eval"]:
        state = task.settle(state)
    if due["eval"]:
        values.update(task.evaluate(state, frozen, data, keys.fixed).scalars)
    if due["log"] or due["eval"]:
        log.log(step, values)
    if due["preview"]:
        log.images("samples", step, task.preview(state, frozen, {}, keys.fixed))
    if due["save"]:
        checkpoints.save(workdir, step, state)
        saved = step
    log.status("running", step, checkpoint=saved)
    return state, saved


def _finish(config, workdir, stop, step, state, frozen, task, data, keys, log, saved) -> dict:
    if saved != step:
        state = task.settle(state)
        checkpoints.save(workdir, step, state)
    if stop.signal is not None and step < config.train.num_steps:
        return log.status("interrupted", step, checkpoint=step)
    evaluation = task.evaluate(state, frozen, data, keys.fixed)
    workdirs.write_evaluation(workdir, step, evaluation)
    log.images("samples", step, task.preview(state, frozen, {}, keys.fixed))
    status = log.status("finished", step, checkpoint=step, parameters_sha256=checkpoints.sha256(state))
    facts = {"config": config.name, "source": config.data.source, "devices": devices.describe(), "commit": workdirs.commit()}
    facts |= {"steps": f"{step:,}", "batch": str(config.train.batch_size), "parameters SHA-256": status["parameters_sha256"]}
    path = report.write_report(workdir, title=config.name, facts=facts, evaluation=workdirs.plain_evaluation(evaluation))
    for name, value in evaluation.scalars.items():
        print(f"  {name:45} {value:.4g}")
    speed = f" at {status['images_per_second']:.0f} images/s" if status["images_per_second"] else ""
    print(f"{step:,} steps{speed}. Samples: {workdir}/samples/step_{step:08d}.png  Report: {path}")
    return status


def evaluate(config, workdir, which: str = "last") -> dict:
    """Returns the scalars of a workdir's checkpoint, written to its evaluation.json.

    Takes no lock. RunError where the scans are no longer those of the run, whose splits they would change.
    """
    task = method(config).make_task(config)
    state, step = checkpoints.restore_for_inference(workdir, task, which)
    prepared = input_pipeline.prepare(config)
    lineage.compare(workdir, prepared.splits)
    data = input_pipeline.make_data(config, prepared)
    keys = Keys(*jax.random.split(jax.random.key(config.seed), 4))
    evaluation = task.evaluate(state, task.frozen, data, keys.fixed)
    workdirs.write_evaluation(workdir, step, evaluation)
    return {name: float(value) for name, value in evaluation.scalars.items()}


def _begin(workdir, task, keys, imported, mesh):
    shapes = jax.eval_shape(lambda key: task.init(key, None), keys.init)
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)
    state, step = checkpoints.restore_newest(workdir, like)
    if state is None:
        state = devices.replicate(mesh, task.init(keys.init, imported))
        checkpoints.check_space(workdir, state)
        print(f"{sum(leaf.size for leaf in jax.tree.leaves(state)):,} numbers in the state; beginning at step 0.")
    else:
        print(f"Going on from step {step:,} of {workdir}.")
    return state, step


def _imported(config, workdir, found) -> tuple[Any, list[dict]]:
    """The weights of `config.init_from`: read once, at step 0."""
    if not config.init_from:
        return None, []
    if found:
        return None, lineage.read(workdir)["upstream"]
    source, which = config.init_from.rsplit("@", 1) if "@" in pathlib.Path(config.init_from).name else (config.init_from, "last")
    step = checkpoints.choose(source, which)
    manifest = checkpoints.verify(source, step)
    upstream = [lineage.of_weights(source, step, manifest["sha256"], lineage.behind(lineage.read(source)))]
    return checkpoints.restore_arrays(source, str(step)), upstream


def _refresh(data, arrays, step, mesh):
    fresh = data.refresh(arrays, step)
    return arrays if fresh is arrays else devices.replicate(mesh, fresh)


def _make_folder(workdir):
    try:
        (workdir / "samples").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"--workdir={workdir} cannot be written: {error}.") from error


def _introduce(config, prepared):
    crop, nm = prepared.crop, prepared.value_map.nm_per_pixel
    height, width = config.data.height, config.data.width
    counts = ", ".join(f"{len(part)} {name.replace('_', ' ')}" for name, part in prepared.splits.items())
    source = "the built-in simulator, not your scans" if config.data.source == "simulated" else config.data.source
    area = f" = {nm[1] * width:.4g} x {nm[0] * height:.4g} nm" if nm else ""
    print(f"{config.name}: {config.task} on {source}: {counts} scans{f', {len(prepared.refused)} refused' if prepared.refused else ''}.")
    values = f"{prepared.value_map.low:.4g} .. {prepared.value_map.high:.4g} {prepared.value_map.unit}"
    print(f"Crops {crop[1]} x {crop[0]} px{area}, reduced to {width} x {height}; {values} to -1 .. 1.")
    print(f"Devices: {devices.describe()}.")
    if devices.unseen_gpu():
        print("A GPU is present but JAX does not see it: install the GPU build (make test ACCELERATOR=cuda12).")
    for refused in prepared.refused[:5]:
        print(f"refused: {refused.file}: {refused.reason}")


def _warn(call, state, arrays, frozen, keys, config):
    if devices.on_cpu():
        text = forecast.warning(call.lower(state, arrays, frozen, keys, 1), config.train.num_steps, config.name)
        if text:
            print(text, flush=True)


def _show_crops(log, data, keys, arrays, config):
    sample = jax.jit(data.sample)
    batches = [sample(arrays, jax.random.fold_in(keys.fixed, i))["image"] for i in range(-(-64 // config.train.batch_size))]
    log.images("training_crops", 0, np.concatenate(batches)[:64])
