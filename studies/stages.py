"""A run over stages: each is a training of its own in WORKDIR/NAME, begun from the weights of another."""

import pathlib
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from microscopy.atomic import write_json
from studies import inputs
from training import beginning, checkpoints, devices, lineage, loop
from training import workdir as workdirs
from training.errors import EXPECTED, ConfigError, RunError
from training.signals import Stop

Rests = Mapping[str, Sequence[str]]
"""What stages and folders of the workdir, such as images/candidates, are made of besides `init_from`: names of others."""


class _Change(NamedTuple):
    """Why a stage cannot stand as it is: the error's type, what happened, and a line more where there is one."""

    error: type[Exception]
    what: str
    more: str = ""


def run(
    config,
    workdir,
    stop: Stop,
    names: Sequence[str] | None = None,
    rests: Rests = types.MappingProxyType({}),
    warned: bool = False,
) -> None:
    """Trains the stages of `config.order` in turn, or those of them in `names`; the same command again goes on where it stopped.

    `config.stages.NAME` is a whole config of `training.loop`; where its `init_from` is "stage:OTHER" it begins from the best checkpoint of
    that stage, or the last where none has a score. Raises ConfigError where a stage has changed since it was trained, RunError where it
    was begun from other weights than that stage holds now, was trained on other images than its source holds now, or is to take
    steps while there is what `rests` on it; each names all that is stale. What is wrong with the config or the weights of any stage is told
    before one is trained. A stage that is finished and unchanged, its input included, is left as it is.
    With `warned` what is wrong with the scans has been told already.
    """
    workdir, names = pathlib.Path(workdir), config.order if names is None else names
    _refuse_stale(config, config.order, workdir, rests)
    finished = [name for name in names if _finished(_begun(config.stages[name], workdir), workdir / name)]
    _refuse_other_inputs(config, names, finished, workdir, rests)
    _refuse_overtaken(config, [name for name in names if name not in finished], workdir, rests)
    for name in names:
        if name not in finished:
            _named(name, lambda name=name: loop.planned(_begun(config.stages[name], workdir)))
    beginning.open_folder(workdir)
    told = workdirs.plain(config)
    told["stages"] = {name: workdirs.stored(stage, workdir) for name, stage in told["stages"].items()}
    write_json(workdir / "config.json", told)
    for name in names:
        if stop.signal is None:
            _refuse_stale(config, [name], workdir, rests)  # again: the stage before may just have gone on
            if name in finished:
                print(f"Stage {name}: finished at step {config.stages[name].train.num_steps:,}.", flush=True)
                continue
            print(f"\nStage {name}: {workdir / name}", flush=True)
            stage = _begun(config.stages[name], workdir)
            if not checkpoints.steps(workdir / name):
                _named(name, lambda name=name, stage=stage: inputs.keep(workdir / name, stage.data))
            loop.train(stage, workdir / name, stop, warned)


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
    alike = workdirs.comparable(config, folder) == workdirs.comparable(workdirs.plain(stage), folder)
    return at_end and alike and stage.train.num_steps in checkpoints.steps(folder)


def _named(name: str, act):
    """What `act()` returns, its errors with the stage's name."""
    try:
        return act()
    except EXPECTED as error:
        raise type(error)(f"stage {name}: {error}") from error


def _behind(config, names: Iterable[str], workdir: pathlib.Path, rests: Rests) -> list[str]:
    """The stages and folders that rest on these, themselves first of all, in order."""
    found, places = set(names), [*config.order, *(place for place in rests if place not in config.order)]
    while True:
        more = {place for place in places if found & set(_below(config, place, workdir, rests))} - found
        if not more:
            return [place for place in places if place in found]
        found |= more


def _below(config, place: str, workdir: pathlib.Path, rests: Rests) -> list[str]:
    source = _source(config.stages[place], workdir) if place in config.order else None
    return [*rests.get(place, ()), *([source.relative_to(workdir).as_posix()] if source else [])]


def _refuse(config, changes: Mapping[str, _Change], stale: Iterable[str], workdir: pathlib.Path) -> None:
    """The error of the first change, with the stale places that stand; nothing where there is no change."""
    there = [one for one in stale if (checkpoints.steps(workdir / one) if one in config.order else (workdir / one).exists())]
    if changes and there:
        first = next(iter(changes.values()))
        remedy = f"Delete {' and '.join(str(workdir / one) for one in there)} to train anew, or take another --workdir."
        raise first.error("\n".join(filter(None, (f"{first.what}, so stale are: {', '.join(there)}.", first.more, remedy))))


def _refuse_stale(config, names: Iterable[str], workdir: pathlib.Path, rests: Rests) -> None:
    changes = {name: found for name in names if (found := _change(config, name, workdir))}
    _refuse(config, changes, _behind(config, changes, workdir, rests), workdir)


def _change(config, name: str, workdir: pathlib.Path) -> _Change | None:
    """How a stage that has been begun differs from what was begun, in its config or in the weights below it."""
    stage, folder = config.stages[name], workdir / name
    if not checkpoints.steps(folder):
        return None
    begun, source = _begun(stage, workdir), _source(stage, workdir)
    other = _Change(RunError, f"stage {name} was begun from other weights than {source} holds now")
    if source is not None and not checkpoints.steps(source):
        return other
    try:
        workdirs.refuse_drift(folder, begun)
    except ConfigError as error:
        changed = str(error).splitlines()[1].strip().replace("config.", f"config.stages.{name}.", 1)
        return _Change(ConfigError, f"stage {name} has changed", f"  {changed}")
    if source is not None:
        step = checkpoints.choose(source, begun.init_from.rpartition("@")[2])
        if checkpoints.verify(source, step)["sha256"] not in {item["sha256"] for item in lineage.read(folder)["upstream"]}:
            return other
    return None


def _refuse_other_inputs(config, names: Iterable[str], finished: list[str], workdir: pathlib.Path, rests: Rests) -> None:
    changes = {}
    for name in names:
        stage = _begun(config.stages[name], workdir)
        begun = bool(checkpoints.steps(workdir / name))
        if begun and not _named(name, lambda name=name, stage=stage: inputs.same(stage, workdir / name, name in finished)):
            what = f"stage {name} was trained on other images, masks or labels than config.data.source={stage.data.source} holds now"
            changes[name] = _Change(RunError, what)
    _refuse(config, changes, _behind(config, changes, workdir, rests), workdir)


def _refuse_overtaken(config, unfinished: Iterable[str], workdir: pathlib.Path, rests: Rests) -> None:
    """A stage that takes steps leaves behind what was made by its weights: told before hours are spent on them."""
    ahead = [name for name in unfinished if max(checkpoints.steps(workdir / name), default=0) < config.stages[name].train.num_steps]
    changes = {name: _Change(RunError, f"stage {name} is to be trained") for name in ahead}
    made = [place for place in rests if set(rests[place]) & set(ahead)]
    _refuse(config, changes, _behind(config, made, workdir, rests), workdir)
