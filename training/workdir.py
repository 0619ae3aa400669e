"""What a workdir says of its run: config.json, environment.json, normalisation.json; and when a changed config may go on."""

import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import time
from collections.abc import Callable

import jax
import ml_collections

from microscopy.atomic import finite, write_json
from microscopy.fields import OPTIONS
from microscopy.normalisation import ValueMap
from microscopy.pictures import write_png
from training import checkpoints, devices
from training.errors import ConfigError, RunError

MAY_CHANGE = (
    "train.num_steps",
    "train.log_every",
    "train.preview_every",
    "train.save_every",
    "train.eval_every",
    "train.steps_per_call",
    "eval",
)
"""Fields that decide only how long a run is, what is logged and how it is scored: no parameter's value depends on them.

The first, the run's length, does so only where no schedule depends on it."""

RUN = "{run}"
"""In the config.json of a stage: the folder of its run over stages, wherever that stands now."""


def plain(config) -> dict:
    """Returns the config as JSON would give it back: dicts, lists, numbers, strings."""
    return json.loads(json.dumps(config.to_dict(), default=list))


def flat(config: dict, prefix: str = "") -> dict:
    """Returns {"a.b": value} for nested dicts."""
    out = {}
    for name, value in config.items():
        out.update(flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value})
    return out


def comparable(config: dict, workdir) -> dict:
    """Returns the `flat` config, paths beside `workdir` as `stored` has them, so that the same place is the same however it is spelled.

    What one of an earlier version does not name it has as it is by default (`microscopy.fields.OPTIONS`).
    """
    known = {f"data.{name}": value for name, value in OPTIONS.items()} | {"train.schedule": "constant"}
    known |= dict.fromkeys(("train.shift", "train.zoom", "train.turn"), 0.0)
    return known | flat(stored(config, _beside(workdir)))


def stored(config: dict, run) -> dict:
    """Returns the plain config of a stage with "{run}" for the folder `run` of its run over stages in paths, which it may be moved with."""

    def told(place: str) -> str:
        if place.startswith((f"{RUN}/", "stage:")):
            return place
        for full in (os.path.abspath, os.path.realpath):
            if (path := pathlib.Path(full(place))).is_relative_to(full(run)):
                return f"{RUN}/{path.relative_to(full(run)).as_posix()}"
        return place

    return _with_paths(config, told)


def _with_paths(config: dict, act: Callable[[str], str]) -> dict:
    """The plain config after `act` on each path in it that may be one of a run over stages."""
    found, data = dict(config), config.get("data")
    if isinstance(data, dict):
        source, masks = str(data.get("source", "")), data.get("masks")
        data = data | ({"source": f"folder:{act(source.removeprefix('folder:'))}"} if source.startswith("folder:") else {})
        found["data"] = data | ({"masks": act(masks)} if masks else {})
    return found | ({"init_from": act(found["init_from"])} if found.get("init_from") else {})


def _here(place: str, workdir) -> str:
    return f"{_beside(workdir)}{place.removeprefix(RUN)}" if place.startswith(f"{RUN}/") else place


def _beside(workdir) -> pathlib.Path:
    return pathlib.Path(os.path.abspath(workdir)).parent


def _is_stage(workdir) -> bool:
    path = _beside(workdir) / "config.json"
    return path.exists() and "stages" in read_object(path)


def refuse_drift(workdir, config) -> None:
    """Raises ConfigError with a readable diff when the workdir was begun with another config; run length and logging may differ."""
    path = pathlib.Path(workdir) / "config.json"
    if not path.exists() or not checkpoints.steps(workdir):  # a start that failed before its first save binds nobody
        return
    old, new = comparable(read_object(path), workdir), comparable(plain(config), workdir)
    names = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    may_change = MAY_CHANGE if new["train.schedule"] == "constant" else MAY_CHANGE[1:]  # a schedule ends with the run
    may_change += ("data.label_reach", "data.label_weight") if new["data.label_field"] == "none" else ()
    names = [name for name in names if not any(name == free or name.startswith(f"{free}.") for free in may_change)]
    if names:
        lines = [f"  config.{name}: {old.get(name, 'absent')} there, {new.get(name, 'absent')} now" for name in names[:2]]
        more = f" (and {len(names) - 2} more)" if len(names) > 2 else ""
        raise ConfigError(
            f"{workdir} was begun with another config; {len(names)} field{'s differ' if len(names) > 1 else ' differs'}{more}:\n"
            + "\n".join(lines)
            + "\nGive the old values to go on, or another --workdir to begin anew."
        )


def read_config(workdir) -> ml_collections.ConfigDict:
    """Returns the config a workdir was trained with; RunError where there is none."""
    path = pathlib.Path(workdir) / "config.json"
    if not path.is_file():
        raise RunError(
            f"{path}: not found, so {workdir} is not the workdir of a run.\nTrain first: python main.py --config=... --workdir={workdir}"
        )
    fields = read_object(path)
    if "task" not in fields:
        raise RunError(f"{path} cannot be read: it names no task.\n{_REMEDY}")
    return as_config(_with_paths(fields, lambda place: _here(place, workdir)))


def as_config(fields: dict) -> ml_collections.ConfigDict:
    """Returns the config, locked, whose `plain` form JSON gave back."""
    return ml_collections.ConfigDict(_tuples(fields)).lock()


def _tuples(value):
    if isinstance(value, dict):
        return {name: _tuples(item) for name, item in value.items()}
    return tuple(value) if isinstance(value, list) else value


_REMEDY = "Restore it from a backup, or use another folder."


def read_object(path: pathlib.Path) -> dict:
    """Returns the object a JSON file holds; RunError where it is missing or damaged."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}.\n{_REMEDY}") from error
    if not isinstance(value, dict):
        raise RunError(f"{path} cannot be read: it holds no JSON object.\n{_REMEDY}")
    return value


def describe(workdir, config, value_map: ValueMap, classes: tuple[str, ...] = ()) -> None:
    """Writes config.json, normalisation.json, where scans have classes classes.json and, with one entry a start, environment.json."""
    folder = pathlib.Path(workdir)
    write_json(folder / "config.json", stored(plain(config), _beside(workdir)) if _is_stage(workdir) else plain(config))
    write_json(folder / "normalisation.json", value_map.__dict__)
    if classes:
        write_json(folder / "classes.json", {"classes": list(classes)})
    path = folder / "environment.json"
    starts = read_object(path).get("starts", []) if path.exists() else []
    write_json(path, {"starts": [*starts, environment()]})


def read_classes(workdir) -> tuple[str, ...]:
    """Returns the names of the classes a run was trained on, label i is name i; RunError where the workdir has none."""
    path = pathlib.Path(workdir) / "classes.json"
    if not path.is_file():
        raise RunError(f"{path}: not found; {workdir} is not the workdir of a run on scans with classes.")
    names = read_object(path).get("classes")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RunError(f"{path} cannot be read: it lists no classes.\n{_REMEDY}")
    return tuple(names)


def refuse_other_classes(workdir, classes: tuple[str, ...]) -> None:
    """Raises ConfigError where the run was begun with scans of other classes, whose numbers these would take."""
    if not checkpoints.steps(workdir) or not (pathlib.Path(workdir) / "classes.json").exists():
        return
    old = read_classes(workdir)
    if old != tuple(classes):
        raise ConfigError(
            f"{workdir} was begun with the classes {', '.join(old[:8])}; the scans now have {', '.join(classes[:8]) or 'none'}.\n"
            "Restore the folders' names, or begin anew in another --workdir."
        )


def read_value_map(workdir) -> ValueMap:
    """Returns the map between [-1, 1] and the scans' own values; RunError where the workdir has none."""
    path = pathlib.Path(workdir) / "normalisation.json"
    if not path.is_file():
        raise RunError(f"{path}: not found; {workdir} is not the workdir of a run.")
    try:
        return as_value_map(read_object(path))
    except TypeError as error:
        raise RunError(f"{path} cannot be read: it holds other fields than a value map's.\n{_REMEDY}") from error


def as_value_map(fields: dict) -> ValueMap:
    """Returns the value map of these fields; TypeError where they are others."""
    return ValueMap(**_tuples(fields))


def environment() -> dict:
    """Returns versions, devices, host, time and the source's git commit ("unknown" outside a checkout)."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "opencv-python", "ml-collections")
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "host": platform.node(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in packages},
        "devices": devices.describe(),
        "processes": jax.process_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "commit": commit(),
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def commit() -> str:
    """Returns the git commit of the source, with "+" when files differ from it; "unknown" outside a checkout."""
    here = pathlib.Path(__file__).resolve().parent

    def git(*words):
        return subprocess.run(("git", *words), cwd=here, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def plain_evaluation(evaluation) -> dict:
    """Returns an evaluation's protocol, scalars and tables as plain values, None for those of a table that are not defined."""
    return {
        "protocol": evaluation.protocol,
        "scalars": {name: float(value) for name, value in evaluation.scalars.items()},
        "tables": finite(dict(evaluation.tables)),
    }


def read_evaluation(workdir) -> dict | None:
    """Returns what `write_evaluation` wrote, None where nothing has been scored yet."""
    path = pathlib.Path(workdir) / "evaluation.json"
    return read_object(path) if path.exists() else None


def write_evaluation(workdir, step: int, evaluation) -> None:
    """Writes evaluation.json, an evaluation with its step (null: a score that is not defined), its pictures as evaluation/NAME.png."""
    for name, picture in evaluation.figures.items():
        write_png(pathlib.Path(workdir) / "evaluation" / f"{name.replace(' ', '_')}.png", picture)
    write_json(pathlib.Path(workdir) / "evaluation.json", {"step": step, **plain_evaluation(evaluation)})
