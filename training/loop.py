"""The training loop, the only one: any method's task, from the first start to the last report, interrupted at will."""

import contextlib
import dataclasses
import importlib
import pathlib
import signal
from typing import Any, NamedTuple

import jax
import numpy as np

import input_pipeline
from training import beginning, checkpoints, devices, lineage, logbook, pseudonyms, report
from training import workdir as workdirs
from training.errors import ConfigError
from training.lock import workdir_lock
from training.signals import Stop
from training.task import Batch, Data, Evaluation, Task


class Keys(NamedTuple):
    """Keys of everything random in a run: initial weights, batches, steps, and the fixed noise of pictures and scores."""

    init: jax.Array
    data: jax.Array
    step: jax.Array
    fixed: jax.Array


OTHER_SCANS = "Held-out scans: those of"
"""In the protocol of an evaluation of other scans than the run holds out."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What stays the same from a run's first step to its last; `shown` is the batch of held-out crops that pictures are made of."""

    config: Any
    workdir: pathlib.Path
    task: Task
    data: Data
    mesh: jax.sharding.Mesh
    keys: Keys
    log: logbook.Logbook
    shown: Batch


@dataclasses.dataclass
class Progress:
    """Where a run stands: the state after `step`, and the steps last saved, drawn and scored (None: not yet)."""

    state: Any
    step: int
    saved: int | None
    drawn: int | None = None
    scored: int | None = None
    evaluation: Evaluation | None = None


def method(config):
    """Returns the module that `config.task` names, such as gan.dcgan."""
    try:
        module = importlib.import_module(config.task)
        if not hasattr(module, "make_task") and not hasattr(module, "run"):
            raise ConfigError(f"config.task={config.task!r} has neither make_task nor run; gan.dcgan has one.")
        return module
    except ModuleNotFoundError as error:
        raise ConfigError(f"config.task={config.task!r}: no such method ({error}).") from error


def train(config, workdir, stop: Stop, warned: bool = False) -> dict:
    """Returns the final status after training from where the workdir stands to `config.train.num_steps`.

    A fresh workdir begins at step 0; any other goes on from its newest sound checkpoint, bit-identically. Raises
    ConfigError, RunError or DataError with what to mend; `stop.signal` set by a handler ends the run after a last save.
    Several processes (`devices.join`) train one state; the first of them alone writes. `warned`: the scans have been warned of.
    """
    workdir, config = pathlib.Path(workdir), devices.with_dtype(config)
    task, mesh = planned(config)
    workdirs.refuse_drift(workdir, config)
    prepared = input_pipeline.prepare(config)
    task = for_scans(task, prepared)
    beginning.open_folder(workdir)
    with workdir_lock(workdir) if devices.primary() else contextlib.nullcontext():
        workdirs.refuse_drift(workdir, config)  # again: another run may have come and gone while the scans were read
        return _train(config, workdir, stop, task, prepared, mesh, warned)


def planned(config) -> tuple[Task, jax.sharding.Mesh]:
    """Returns (task, mesh) of a config; ConfigError, or DataError for weights, where it cannot be trained whatever the scans are."""
    check_periods(config.train)
    mesh = devices.make_mesh(config.train.batch_size)
    return method(config).make_task(config), mesh


def for_scans(task: Task, prepared) -> Task:
    """Returns the task for these scans; what it raises where it cannot be trained on them."""
    return task.for_scans(prepared) if task.for_scans else task


def _train(config, workdir, stop, task, prepared, mesh, warned) -> dict:
    prepared = pseudonyms.in_workdir(config, workdir, prepared)
    beginning.introduce(config, prepared, task.notes, warned)
    keys = Keys(*jax.random.split(jax.random.key(config.seed), 4))
    imported, upstream = beginning.imported(config, workdir)
    state, step = beginning.begin(workdir, task, keys.init, imported, mesh, config.train.num_steps)
    if devices.primary():
        lineage.write(workdir, prepared.splits, upstream)
        workdirs.refuse_other_classes(workdir, prepared.classes)
        workdirs.describe(workdir, config, prepared.value_map, prepared.classes)
    data = input_pipeline.make_data(config, prepared)
    arrays, frozen = devices.replicate(mesh, data.arrays), devices.replicate(mesh, task.frozen)
    data = dataclasses.replace(data, arrays=None, upstream=tuple(upstream))  # a window that has passed must not stay on the device
    shown = next(iter(data.batches("held_out" if prepared.splits["held_out"] else "train")))
    sizes = {"num_steps": config.train.num_steps, "batch_size": config.train.batch_size}
    log = logbook.open_logbook(workdir, step=step, primary=devices.primary(), **sizes)
    run, progress = Run(config, workdir, task, data, mesh, keys, log, jax.device_get(shown)), Progress(state, step, step or None)
    del state, imported
    try:
        log.status("running", step, checkpoint=progress.saved)
        _steps(run, progress, arrays, frozen, stop)
        return _finish(run, progress)
    except BaseException as error:
        word = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        log.status(word, progress.step, checkpoint=progress.saved, error=str(error) or type(error).__name__)
        raise
    finally:
        log.close()


def _steps(run: Run, progress: Progress, arrays, frozen, stop: Stop) -> None:
    """Trains to the last step, or to the one after which some process was asked to stop."""
    train_config, keys = run.config.train, devices.replicate(run.mesh, run.keys)
    call = make_call(run.task, run.data, run.mesh)
    if progress.step == 0 and devices.primary():
        beginning.warn(run.config, lambda: call.lower(progress.state, arrays, frozen, keys, 1))
        _show_crops(run, devices.local(arrays))
        _draw(run, progress, run.task.settle(devices.local(progress.state)))
    stop.gentle = True  # from here on there are steps to lose
    while progress.step < train_config.num_steps:
        if devices.any_process(stop.signal is not None):
            stop.signal = stop.signal or signal.SIGTERM
            return
        arrays = _refresh(run, arrays, progress.step)
        num = 1 if devices.on_cpu() else train_config.steps_per_call - progress.step % train_config.steps_per_call
        progress.state, scalars = call(progress.state, arrays, frozen, keys, num)
        jax.block_until_ready(scalars)
        progress.step += num
        run.log.tick(progress.step)
        due = {name for name in ("log", "preview", "save", "eval") if _due(progress.step, train_config, name)}
        if due:
            with run.log.paused():
                _maintain(run, progress, due, scalars)


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


def _maintain(run: Run, progress: Progress, due: set[str], scalars) -> None:
    """Everything between two calls, on the first process: checks, scores, pictures, the log line, the checkpoint."""
    step, values = progress.step, logbook.finite(progress.step, jax.device_get(scalars))
    if devices.primary():
        state = devices.local(progress.state)
        settled = state if due == {"log"} else run.task.settle(state)
        if "eval" in due:
            _score(run, progress, settled)
            values.update(progress.evaluation.scalars)
            if checkpoints.is_best(run.workdir, progress.evaluation.score):
                due = due | {"save"}
        if due & {"log", "eval"}:
            run.log.log(step, values)
        if "preview" in due:
            _draw(run, progress, settled)
        if "save" in due:
            run.log.sync()
            checkpoints.save(run.workdir, step, settled, progress.evaluation.score if progress.scored == step else None)
    progress.saved = step if "save" in due else progress.saved
    run.log.status("running", step, checkpoint=progress.saved)
    if "eval" in due and devices.primary():
        _report(run, progress, {"state": "running", "step": f"{step:,}"})


def _score(run: Run, progress: Progress, settled) -> None:
    progress.evaluation = run.task.evaluate(settled, run.task.frozen, run.data, run.keys.fixed)
    progress.scored = progress.step
    workdirs.write_evaluation(run.workdir, progress.step, progress.evaluation)


def _draw(run: Run, progress: Progress, settled) -> None:
    run.log.images("samples", progress.step, run.task.preview(settled, run.task.frozen, run.shown, run.keys.fixed))
    progress.drawn = progress.step


def _finish(run: Run, progress: Progress) -> dict:
    """The last save, scores and pictures; where steps are left, only the save. Returns the status as written."""
    step, num_steps = progress.step, run.config.train.num_steps
    interrupted = step < num_steps
    if not devices.primary():
        return run.log.status("interrupted" if interrupted else "finished", step)
    settled = run.task.settle(devices.local(progress.state))
    if progress.saved != step and step > 0:
        checkpoints.save(run.workdir, step, settled)
        progress.saved = step
    if interrupted:
        status = run.log.status("interrupted", step, checkpoint=progress.saved)
        print(f"Interrupted at step {step:,} of {num_steps:,}{', saved' if step else ', nothing to save'}; the same command goes on.")
        _report(run, progress, {"state": "interrupted; the same command goes on", "step": f"{step:,} of {num_steps:,}"})
        return status
    if progress.scored != step:
        _score(run, progress, settled)
    if progress.drawn != step:
        _draw(run, progress, settled)
    status = run.log.status("finished", step, checkpoint=step, parameters_sha256=checkpoints.sha256(settled))
    path = _report(run, progress, {"steps": f"{step:,}", "parameters SHA-256": status["parameters_sha256"]})
    print_scores(progress.evaluation)
    if best := best_text(run.workdir):
        print(f"Best checkpoint: {best}; --checkpoint=best takes it.")
    speed = f" at {status['images_per_second']:.0f} images/s" if status["images_per_second"] else ""
    print(f"{step:,} steps{speed}. Samples: {run.workdir}/samples/step_{step:08d}.png  Report: {path}")
    return status


def _report(run: Run, progress: Progress, facts: dict[str, str]) -> pathlib.Path:
    config = run.config
    source = pseudonyms.source(config.data, run.data.prepared)
    headline = {"config": config.name, "source": source, "devices": devices.describe(), "commit": workdirs.commit()}
    headline |= {"batch": str(config.train.batch_size), **facts, "best checkpoint": best_text(run.workdir) or "none scored yet"}
    last = progress.evaluation
    shown = workdirs.plain_evaluation(last) | {"figures": last.figures} if last else workdirs.read_evaluation(run.workdir)
    return report.write_report(run.workdir, title=config.name, facts=headline, evaluation=shown)


def best_text(workdir) -> str:
    """Returns "step 2,500, surface/card 1.3 (protocol)" of the best checkpoint, "" where none has a score.

    The value is the logged scalar of the score's name where there is one: a Score of which more is better, such as PSNR, is negated.
    """
    best = checkpoints.best(workdir)
    if best is None:
        return ""
    score = checkpoints.scores(workdir)[best]
    records = logbook.read(pathlib.Path(workdir) / "metrics.jsonl")
    logged = [record[score.name] for record in records if record["step"] == best and score.name in record]
    return f"step {best:,}, {score.name} {(logged or [score.value])[-1]:.4g} ({score.protocol})"


def print_scores(evaluation: Evaluation) -> None:
    """Prints the protocol and every scalar of an evaluation, one a line."""
    print(evaluation.protocol)
    for name, value in evaluation.scalars.items():
        print(f"  {name:45} {float(value):.4g}")


def evaluate(config, workdir, which: str = "last", place: str = "", nm_per_pixel: float = 0.0) -> Evaluation:
    """Returns the evaluation of a workdir's checkpoint, written to its evaluation.json.

    `place`: a folder of other scans that take the place of the held-out ones, "" for the run's own; `nm_per_pixel` that of its files
    which state none. Takes no lock. RunError where the
    run's scans are no longer those it was begun with, whose splits they would change, and where it was trained on one of `place`.
    """
    task = method(config).make_task(config)
    prepared = pseudonyms.in_workdir(config, workdir, input_pipeline.prepare(config))
    lineage.compare(workdir, prepared.splits)
    task = for_scans(task, prepared)
    state, step = checkpoints.restore_for_inference(workdir, task, which)
    if place:
        prepared = input_pipeline.with_held_out(config, prepared, place, nm_per_pixel)
        lineage.refuse_trained_on(workdir, prepared.splits["held_out"])
    own = {"upstream": tuple(lineage.read(workdir)["upstream"]), "workdir": pathlib.Path(workdir) if place else None}
    data = dataclasses.replace(input_pipeline.make_data(config, prepared), **own)
    keys = Keys(*jax.random.split(jax.random.key(config.seed), 4))
    evaluation = task.evaluate(state, task.frozen, data, keys.fixed)
    if place:
        evaluation = dataclasses.replace(evaluation, protocol=f"{evaluation.protocol} {OTHER_SCANS} {place}.")
    workdirs.write_evaluation(workdir, step, evaluation)
    return evaluation


def _refresh(run: Run, arrays, step):
    fresh = run.data.refresh(arrays, step)
    return arrays if fresh is arrays else devices.replicate(run.mesh, fresh)


def _show_crops(run: Run, arrays):
    sample, size = jax.jit(run.data.sample), run.config.train.batch_size
    batches = [sample(arrays, jax.random.fold_in(run.keys.fixed, i))["image"] for i in range(-(-64 // size))]
    run.log.images("training_crops", 0, np.concatenate(batches)[:64])
