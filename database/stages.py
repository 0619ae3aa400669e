"""Stages that read each other's results: each is finished only where its config and what it reads are as they were.

WORKDIR/stages/NAME.json is the record of a stage: `state` (begun, finished), `config`, `inputs` and `outputs` (SHA-256 by name) and the
`seconds` it took. A record that no longer fits makes its stage stale, and those that read it.
"""

import dataclasses
import hashlib
import pathlib
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from database.progress import Progress
from microscopy.atomic import write_json
from training import workdir as workdirs
from training.errors import ConfigError, RunError
from training.signals import Stop


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of a run.

    `config`, plain, decides with `inputs` (SHA-256 by name) and the outputs of the stages in `reads` what comes out. `make(stop)` makes it,
    or goes on where it was interrupted; `outputs()` gives the SHA-256 by name of what stands there, {} where it is not whole. `places` are
    the files and folders that are deleted to make it anew; `keep()`, called before, moves aside what in them no stage can make. With
    `trains` it is a training, some of whose fields may change (`workdir.MAY_CHANGE`); `work()` is a number its time is proportional to,
    among stages that have one, 0 where it is not known.
    """

    name: str
    config: Mapping
    reads: tuple[str, ...]
    inputs: Mapping[str, str]
    make: Callable[[Stop], None]
    outputs: Callable[[], Mapping[str, str]]
    places: tuple[pathlib.Path, ...]
    trains: bool = False
    work: Callable[[], float] = lambda: 0.0
    spent: Callable[[], float] = lambda: 0.0
    keep: Callable[[], None] = lambda: None


def run(
    stages: Sequence[Stage],
    workdir: pathlib.Path,
    stop: Stop,
    rebuild: bool,
    accepted: Callable[[], None] = lambda: None,
    summary: pathlib.Path | None = None,
    withheld: str = "",
) -> list[str] | None:
    """Returns the names of the stages that were made, or went on, after all are finished; None where a signal came first.

    `accepted` is called when no stale stage stands in the way. Stages that are finished are left. ConfigError, before anything is made,
    that lists the stale ones, unless `rebuild`: then these are deleted first, and made anew. A stage whose inputs turn out to have changed
    when its turn comes is stale too. `summary`, a file that tells of all stages, is deleted before one is deleted or made: it would be old.
    It stays while a stage that stands whole is but gone over, because somebody changed its files. With `withheld` status.json tells of a
    failure by these words alone.
    """
    stale = judged(stages, workdir)
    if stale and not rebuild:
        raise ConfigError(_told(stale))
    if stale:
        _unlink(summary)
    for stage in reversed([stage for stage in stages if stage.name in stale]):  # those that read others first: a kill leaves none unnoticed
        remove(stage, workdir)
    accepted()
    made, progress = [], Progress(workdir, [stage.name for stage in stages], withheld)
    with progress.telling(stop):
        for stage in stages:
            if stop.signal is not None:
                return None
            if settled(stage, stages, workdir, rebuild):
                progress.skip(stage.name, read(workdir, stage.name)["seconds"])
                continue
            if not _stands(stage, workdir):
                _unlink(summary)
            waiting = [one for one in stages[stages.index(stage) :] if one is stage or not _is_finished(workdir, one.name)]
            progress.begin(stage.name, stage.places[0], {one.name: one.work() for one in waiting})
            if not _make(stage, stages, workdir, stop):
                return None
            progress.end(stage.name, read(workdir, stage.name)["seconds"], stage.work(), stage.spent())
            made.append(stage.name)
    return made


def _unlink(path: pathlib.Path | None) -> None:
    try:
        if path is not None:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"{path} cannot be deleted: {error.strerror or error}.") from error


def _make(stage: Stage, stages: Sequence[Stage], workdir: pathlib.Path, stop: Stop) -> bool:
    """Whether the stage is finished, and not interrupted."""
    old, started = read(workdir, stage.name) or {}, time.monotonic()
    record = {"state": "begun", "config": dict(stage.config), "inputs": inputs(stage, stages, workdir), "outputs": {}}
    record["seconds"] = old.get("seconds", 0.0)
    write(workdir, stage.name, record)
    stage.make(stop)
    record["seconds"] += time.monotonic() - started
    if stop.signal is None:
        record |= {"state": "finished", "outputs": dict(stage.outputs())}
        if not record["outputs"]:
            raise RunError(f"stage {stage.name}: {stage.places[0]} is not whole after it was made; free space, and give the command again.")
    write(workdir, stage.name, record)
    return stop.signal is None


def _stands(stage: Stage, workdir: pathlib.Path) -> bool:
    """Whether the stage was finished and is whole, by its own files or by others."""
    record = read(workdir, stage.name)
    return bool(record and record["state"] == "finished" and record["config"] == dict(stage.config) and stage.outputs())


def settled(stage: Stage, stages: Sequence[Stage], workdir: pathlib.Path, rebuild: bool) -> bool:
    """Returns whether the stage is finished; deletes it where its inputs have changed and `rebuild`, else that is a ConfigError.

    The stages before it are settled, so the error lists all that are stale now.
    """
    record = read(workdir, stage.name)
    if record is None:
        return False
    now = inputs(stage, stages, workdir)
    if record["inputs"] != now:
        if not rebuild:
            raise ConfigError(_told({stage.name: _other(record["inputs"], now)} | judged(stages, workdir)))
        remove(stage, workdir)
        return False
    return record["state"] == "finished" and record["config"] == dict(stage.config) and dict(stage.outputs()) == record["outputs"]


def judged(stages: Sequence[Stage], workdir: pathlib.Path) -> dict[str, str]:
    """Returns stale stage -> why, in order: begun stages whose config or known inputs changed, and those that read such or longer ones."""
    stale, moving = {}, set()
    for stage in stages:
        record = read(workdir, stage.name)
        if record is None:
            continue
        changed, above = differing(record["config"], stage.config), [name for name in stage.reads if name in moving]
        breaking = [name for name in changed if not (stage.trains and _may_change(name, record, stage))]
        if breaking:
            stale[stage.name] = _diff(stage, record["config"], breaking)
        elif above:
            stale[stage.name] = f"it reads {above[0]}"
        elif other := _other(record["inputs"], _known(stage, workdir)):
            stale[stage.name] = other
        if stage.name in stale or "train.num_steps" in changed:
            moving.add(stage.name)
    return stale


def inputs(stage: Stage, stages: Sequence[Stage], workdir: pathlib.Path) -> dict[str, str]:
    """Returns the SHA-256 by name of all that a stage reads: its own inputs and, as STAGE/NAME, the outputs of the stages before."""
    names = [one.name for one in stages if one.name in stage.reads]
    return {**stage.inputs, **{f"{name}/{key}": value for name in names for key, value in read(workdir, name)["outputs"].items()}}


def _known(stage: Stage, workdir: pathlib.Path) -> dict[str, str]:
    """The inputs that are known before the stages above have run again."""
    done = [name for name in stage.reads if _is_finished(workdir, name)]
    return {**stage.inputs, **{f"{name}/{key}": value for name in done for key, value in read(workdir, name)["outputs"].items()}}


def _other(old: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Which of the inputs known now was another; "" where none was."""
    names = [name for name, value in now.items() if old.get(name) != value]
    return f"it was made with other {names[0]}" if names else ""


def _may_change(name: str, record: Mapping, stage: Stage) -> bool:
    if name == "train.num_steps":
        old, new = record["config"]["train"], stage.config["train"]
        scheduled = any(train.get("schedule", "constant") != "constant" for train in (old, new))  # a schedule ends with the run
        return not scheduled and old["num_steps"] < new["num_steps"]
    return any(name == free or name.startswith(f"{free}.") for free in workdirs.MAY_CHANGE)


def differing(old: Mapping, new: Mapping) -> list[str]:
    """Returns the dotted names of the fields in which two plain configs differ, sorted."""
    old, new = workdirs.flat(dict(old)), workdirs.flat(dict(new))
    return [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]


def _diff(stage: Stage, old: Mapping, names: Sequence[str]) -> str:
    old, new, name = workdirs.flat(dict(old)), workdirs.flat(dict(stage.config)), names[0]
    more = f" (and {len(names) - 1} more)" if names[1:] else ""
    return f"{name}: {old.get(name, 'absent')} there, {new.get(name, 'absent')} now{more}"


def _told(stale: Mapping[str, str]) -> str:
    first, *others = stale
    behind = f"Stale with it: {', '.join(others)}." if others else "No other stage is stale."
    return (
        f"stage {first} has changed: {stale[first]}.\n{behind}\n"
        "--config.resume=rebuild makes just these anew; the old value, or another --workdir, leaves them as they are."
    )


def _is_finished(workdir: pathlib.Path, name: str) -> bool:
    record = read(workdir, name)
    return record is not None and record["state"] == "finished"


def read(workdir: pathlib.Path, name: str) -> dict | None:
    """Returns the record of a stage, None where it was never begun; RunError where the file is damaged."""
    path = workdir / "stages" / f"{name}.json"
    if not path.exists():
        return None
    record = workdirs.read_object(path)
    if not all(isinstance(record.get(key), dict) for key in ("config", "inputs", "outputs")) or not {"state", "seconds"} <= record.keys():
        raise RunError(f"{path} cannot be read: it is no record of a stage.\nDelete it, and the stage is made again.")
    return record


def write(workdir: pathlib.Path, name: str, record: Mapping) -> None:
    """Writes the record of a stage; RunError where the disk refuses."""
    path = workdir / "stages" / f"{name}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, record)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}.") from error


def remove(stage: Stage, workdir: pathlib.Path) -> None:
    """Deletes what a stage made, but for what it keeps, then its record, so that a kill in between leaves it to be deleted again."""
    stage.keep()
    try:
        for place in stage.places:
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        (workdir / "stages" / f"{stage.name}.json").unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"{error.filename or stage.places[0]} cannot be deleted: {error.strerror or error}.") from error


def digests(paths: Iterable[pathlib.Path]) -> Mapping[str, str]:
    """Returns the SHA-256 by file name of the files, {} where one is missing."""
    found = {}
    for path in paths:
        if not path.is_file():
            return {}
        with open(path, "rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
