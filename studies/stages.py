"""A run over stages: each is a training of its own in WORKDIR/NAME, begun from the weights of another."""

import pathlib

from microscopy.atomic import write_json
from training import beginning, checkpoints, devices, lineage, loop
from training import workdir as workdirs
from training.errors import EXPECTED, ConfigError, RunError
from training.signals import Stop


def run(config, workdir, stop: Stop) -> None:
    """Trains the stages of `config.order` in turn; the same command again goes on where it stopped.

    `config.stages.NAME` is a whole config of `training.loop`; where its `init_from` is "stage:OTHER" it begins from the best checkpoint of
    that stage, or the last where none has a score. Raises ConfigError where a stage has changed since it was trained, RunError where it
    was begun from other weights than that stage holds now; either names the stages that are stale. What is wrong with the config or the
    weights of any stage is told before one is trained. A stage that is finished and unchanged is left as it is.
    """
    workdir = pathlib.Path(workdir)
    for name in config.order:
        _refuse_stale(config, name, workdir)
    finished = [name for name in config.order if _finished(_begun(config.stages[name], workdir), workdir / name)]
    for name in config.order:
        if name not in finished:
            _refuse_unfit(config, name, workdir)
    beginning.open_folder(workdir)
    write_json(workdir / "config.json", workdirs.plain(config))
    for name in config.order:
        if stop.signal is None:
            _refuse_stale(config, name, workdir)  # again: the stage before may just have gone on
            if name in finished:
                print(f"Stage {name}: finished at step {config.stages[name].train.num_steps:,}.", flush=True)
                continue
            print(f"\nStage {name}: {workdir / name}", flush=True)
            loop.train(_begun(config.stages[name], workdir), workdir / name, stop)


def _begun(stage, workdir: pathlib.Path):
    """The stage with the checkpoint in `init_from` that it begins from, if that stands already."""
    stage = devices.with_dtype(stage.copy_and_resolve_references())
    source = _source(stage, workdir)
    if source is not None:
        with stage.unlocked():
            stage.init_from = f"{source}@{'last' if checkpoints.best(source) is None else 'best'}"
    return stage


def _source(stage, workdir: pathlib.Path) -> pathlib.Path | None:
    kind, _, other = stage.init_from.partition(":")
    return workdir / other if kind == "stage" else None


def _finished(stage, folder: pathlib.Path) -> bool:
    """Whether the stage came to its last step with just this config, the fields that may change included, and stands there still."""
    try:
        status, config = (workdirs.read_object(folder / name) for name in ("status.json", "config.json"))
    except RunError:
        return False
    at_end = status.get("state") == "finished" and status.get("step") == stage.train.num_steps
    return at_end and config == workdirs.plain(stage) and stage.train.num_steps in checkpoints.steps(folder)


def _refuse_unfit(config, name: str, workdir: pathlib.Path) -> None:
    try:
        loop.planned(_begun(config.stages[name], workdir))
    except EXPECTED as error:
        raise type(error)(f"stage {name}: {error}") from error


def _refuse_stale(config, name: str, workdir: pathlib.Path) -> None:
    stage, folder = config.stages[name], workdir / name
    stale = [other for other in config.order[config.order.index(name) :] if checkpoints.steps(workdir / other)]
    if not checkpoints.steps(folder):
        return
    remedy = f"Delete {' and '.join(str(workdir / other) for other in stale)} to train anew, or take another --workdir."
    begun, source = _begun(stage, workdir), _source(stage, workdir)
    other = RunError(f"stage {name} was begun from other weights than {source} holds now; stale: {', '.join(stale)}.\n{remedy}")
    if source is not None and not checkpoints.steps(source):
        raise other
    try:
        workdirs.refuse_drift(folder, begun)
    except ConfigError as error:
        changed = str(error).splitlines()[1].strip().replace("config.", f"config.stages.{name}.", 1)
        raise ConfigError(f"stage {name} has changed, so stale are: {', '.join(stale)}.\n  {changed}\n{remedy}") from error
    if source is not None:
        step = checkpoints.choose(source, begun.init_from.rpartition("@")[2])
        if checkpoints.verify(source, step)["sha256"] not in {item["sha256"] for item in lineage.read(folder)["upstream"]}:
            raise other
