"""What a database is made from: in words, the facts of database.json, and as functions, the generator, upscaler and labels they name."""

import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Mapping

import jax
import numpy as np

import resize
from database import index
from database.making import CHUNK, SPECK, Recipe
from gan import dcgan
from microscopy import label_field, thresholds
from microscopy.normalisation import ValueMap
from segmentation import instances
from superres import srgan
from training import checkpoints, lineage
from training import workdir as workdirs
from training.errors import ConfigError, RunError

BATCH = 8
"""Images the upscaler sees at a time, on every machine: another number would change floats by one unit in the last place."""
GENERATORS, UPSCALERS = ("gan.dcgan",), ("superres.srgan",)
HELD_OUT = 0.1


def describe(
    folder,
    generator,
    upscaler=None,
    *,
    num_images: int,
    seed: int = 0,
    checkpoint: str = "last",
    size: tuple[int, int] = (256, 256),
    held_out: float = HELD_OUT,
    labels: str = "auto",
    gate: Mapping | None = None,
) -> dict:
    """Returns the facts of a database of `num_images` images: all that decides its bytes, and the scans behind it.

    `generator` is the workdir of a `gan.dcgan` run at `checkpoint` (last, best, a step), `upscaler` of a `superres.srgan` run (None:
    bilinear), at its last: its best was chosen by held-out scans, which judge. `labels`: "auto" (the generator's label field where it
    draws one, else none), "prelabelled" (`thresholds`, to be corrected by hand) or "none". `gate` as `gates.calibrate` gives it.
    ConfigError, RunError where they cannot be.
    """
    if not 1 <= num_images <= index.MAX_ROWS or not 0 <= seed < 2**32 or not 0 <= held_out < 1:
        raise ConfigError(f"{num_images} images of seed {seed}, {held_out} held out: 1 or more, 0 to 4294967295, 0 to below 1.")
    if labels not in ("auto", "prelabelled", "none"):
        raise ConfigError(f"labels {labels!r}: choose auto, prelabelled or none.")
    config, value_map = workdirs.read_config(generator), workdirs.read_value_map(generator)
    if config.data.channels != 1 or config.data.height * size[1] != config.data.width * size[0]:
        shape = f"{config.data.width} x {config.data.height} px, {config.data.channels} channels"
        raise ConfigError(f"{generator}: draws {shape}; a database of {size[1]} x {size[0]} px needs one channel of the same shape.")
    drawn = config.data.get("label_field", "none") if labels == "auto" else "none"
    origin = "generated field" if drawn != "none" else "prelabelled" if labels == "prelabelled" else ""
    nm = value_map.nm_per_pixel and float(value_map.nm_per_pixel[0] * config.data.height / size[0])
    return {
        "format_version": index.FORMAT_VERSION,
        "num_images": num_images,
        "seed": seed,
        "size": list(size),
        "unit": value_map.unit,
        "nm_per_pixel": nm,
        "value_map": json.loads(json.dumps(value_map.__dict__)),
        "generator": _stage(folder, generator, GENERATORS, checkpoint),
        "upscaler": "bilinear" if upscaler is None else _stage(folder, upscaler, UPSCALERS, "last"),
        "labels": {"origin": origin, "kind": drawn},
        "held_out": held_out,
        "gate": None if gate is None else dict(gate),
        "sources": _sources(generator, upscaler),
        "environment": environment(),
    }


def environment() -> dict:
    """Returns what, beside the facts, may change a bit: platform ("cpu"), kind of device (on a CPU the processor's name), jax version."""
    device = jax.devices()[0]
    return {"platform": device.platform, "device": _processor() if device.platform == "cpu" else device.device_kind, "jax": jax.__version__}


def _processor() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "cpu"


def _stage(folder, workdir, tasks: tuple[str, ...], checkpoint: str) -> dict:
    config = workdirs.read_config(workdir)
    if config.task not in tasks:
        raise ConfigError(f"{workdir}: is a run of {config.task}; one of {', '.join(tasks)} is needed.")
    step = checkpoints.choose(workdir, checkpoint)
    return {
        "workdir": os.path.relpath(workdir, folder),
        "step": step,
        "weights_sha256": checkpoints.verify(workdir, step)["sha256"],
        "config_sha256": config_sha256(workdirs.read_object(pathlib.Path(workdir) / "config.json")),
    }


def config_sha256(config: Mapping) -> str:
    """Returns the SHA-256 of a config as config.json has it, of its JSON with sorted names; what only logs and scores (`eval`) counts too.

    Without `init_from`, a path: what a run was begun from is in its weights' SHA-256, whatever folder it lies in.
    """
    told = {name: value for name, value in config.items() if name != "init_from"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _sources(generator, upscaler) -> list[dict]:
    found: dict[str, dict] = {}
    for workdir in (generator, upscaler):
        scans = lineage.behind(lineage.read(workdir)) if workdir is not None else []
        for scan in scans:
            if scan["split"] == "train":
                found.setdefault(scan["sha256"], {name: scan[name] for name in ("id", "file", "sha256")})
    return sorted(found.values(), key=lambda scan: (scan["id"], scan["sha256"]))


def load(folder, facts: Mapping) -> Recipe:
    """Returns the functions that make the images of these facts, everything loaded; RunError where a stage is not there as it was."""
    generator, upscaler, size = facts["generator"], facts.get("upscaler"), tuple(facts["size"])
    place, config = _found(folder, generator, GENERATORS, "generator")
    chunk = dcgan.make_chunks(config, place, str(generator["step"]), facts["seed"])
    try:
        value_map, origin = workdirs.as_value_map(facts["value_map"]), facts["labels"]["origin"]
        label = _label(origin, facts["labels"]["kind"], value_map.unit, max(1, size[0] * size[1] // SPECK))
    except (KeyError, TypeError) as error:
        raise RunError(f"{pathlib.Path(folder) / index.FACTS}: its value map or labels are damaged.\nRestore it from a backup.") from error
    if upscaler == "bilinear":
        return Recipe(chunk, lambda images: resize.bilinear(images, *size), value_map, label, origin)
    upscale = _make_superres(*_found(folder, upscaler, UPSCALERS, "upscaler"), upscaler, value_map, size)
    return Recipe(chunk, upscale, value_map, label, origin)


def _found(folder, stage, tasks: tuple[str, ...], what: str) -> tuple[pathlib.Path, object]:
    """(workdir, config) of a stage that stands as the facts say."""
    path = pathlib.Path(folder) / index.FACTS
    workdir = index.stage_folder(folder, stage)
    if workdir is None or type(stage.get("step")) is not int:
        raise RunError(f"{path}: its {what} is no stage with workdir and step.\nRestore it from a backup.")
    config = workdirs.read_config(workdir)
    if config.task not in tasks:
        raise RunError(f"{workdir}: is a run of {config.task}, but {path} names it as the {what}.\nRestore it from a backup.")
    if stage["step"] not in checkpoints.steps(workdir):
        raise RunError(f"{workdir}: checkpoint {stage['step']}, the {what} of {path}, is not there.\nRestore it from a backup.")
    if checkpoints.verify(workdir, stage["step"])["sha256"] != stage.get("weights_sha256"):
        raise RunError(f"{workdir}: checkpoint {stage['step']} holds other weights than those {path} was made with.\nRestore them.")
    return workdir, config


def _label(origin: str, kind: str, unit: str, min_area: int) -> Callable[[np.ndarray], np.ndarray] | None:
    """label(field or values) -> instances. Before correction by hand: footprints of heights, of grey levels Otsu's threshold, both cut."""
    if origin == "generated field":
        return functools.partial(label_field.instances, min_area=min_area, kind=kind)
    if origin == "prelabelled":
        if unit != "nm":
            return functools.partial(instances.otsu_watershed, min_area=min_area)
        return lambda values: instances.from_mask(thresholds.footprint_mask(values), min_area)
    return {"": None}[origin]


def _make_superres(workdir: pathlib.Path, config, stage: Mapping, value_map: ValueMap, size: tuple[int, int]) -> Callable:
    """upscale(images) by a trained SRGAN, whose own value map the images are brought to and back; then bicubic to the size."""
    task = srgan.make_task(srgan.without_judge(config))
    state, _ = checkpoints.restore_for_inference(workdir, task, str(stage["step"]))
    upscale, (params, stats), own = srgan.make_upscale(config), srgan.inference(state), workdirs.read_value_map(workdir)
    if own.unit != value_map.unit or own.dtype != value_map.dtype or config.data.channels != 1:
        raise ConfigError(
            f"{workdir}: was trained on {own.unit} {own.dtype}, the generator on {value_map.unit} {value_map.dtype}.\nUse one kind."
        )
    gain = (value_map.high - value_map.low) / (own.high - own.low)
    shift = ((value_map.high + value_map.low) - (own.high + own.low)) / (own.high - own.low)

    def make(images: np.ndarray) -> np.ndarray:
        low = np.clip(images * np.float32(gain) + np.float32(shift), -1.0, 1.0)
        parts = [upscale(params, stats, low[start : start + BATCH]) for start in range(0, CHUNK, BATCH)]
        large = np.concatenate([np.asarray(resize.bicubic(part, *size), np.float32) for part in parts])
        return np.clip((large - np.float32(shift)) / np.float32(gain), -1.0, 1.0)

    return make
