"""Scans classified by a trained network: a row of predictions.csv for each, with the calibrated probability of every class.

Of the scan "a" a_class.json is its part of the table; the table is put together from the parts that stand whenever a run ends, so that
an interrupted one and those after it give what one run would have given.
"""

import dataclasses
import json
import math
import pathlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from classification.views import make_view
from metrics import confusion
from metrics.calibration import log_probabilities
from microscopy import fields, levels, particle_table, preparation, resampling
from microscopy.preparation import Prepared
from microscopy.scan import DataError, Scan
from training import lineage, logbook, prediction
from training import workdir as workdirs
from training.errors import ConfigError, RunError

PART, TABLE = "_class.json", "predictions.csv"
TEMPERATURE = "classification/temperature"


def check(request: prediction.Request) -> None:
    """Raises ConfigError for a request that a classifier cannot be asked for."""
    prediction.check(request)
    for name in ("format", "smoothing", "size", "back_projections", "tile"):
        if getattr(request, name):
            raise ConfigError(f"--{name}={getattr(request, name)} is not for a classifier, which writes {TABLE}; leave it out.")


def predict(data, prepared: Prepared, logits: Callable, workdir, step: int, request: prediction.Request) -> prediction.Outcome:
    """Returns what came of it after every scan of `request.input` has its row in predictions.csv: `training.prediction.write_all`.

    `data` is the run's `config.data`, `prepared` its map, crop and classes, `logits` takes images (1, h, w, c). Prints how long an image
    took and, of scans in folders named like classes, how many are right, of those alone that the run was not trained on where there are
    some. RunError at the end where files could not be read.
    """
    temperature, fitted = temperature_of(workdir, step)
    print(f"Step {step:,}; temperature {temperature:.4g}" + (f", fitted at step {fitted:,}." if fitted else ": not fitted yet."))
    view, busy, seconds = make_view(prepared, data, 1), threading.Lock(), []
    jax.block_until_ready(logits(np.zeros((1, data.height, data.width, data.channels), np.float32)))

    def one(scan: Scan) -> dict[str, bytes]:
        ready = as_the_runs(scan, prepared, data)
        with busy:
            image = jax.block_until_ready(jax.device_put(view([ready])))
            started = time.perf_counter()
            found = np.asarray(jax.block_until_ready(logits(image)))
            seconds.append(time.perf_counter() - started)
        if not np.isfinite(found).all():
            raise DataError("became NaN or infinite in the network; look at the weights")
        named = dataclasses.replace(scan, file="" if request.renamed else _below(scan.file, request.input))
        row = described(named, np.exp(log_probabilities(found, temperature))[0], prepared.classes)
        return {PART: json.dumps({**row, "sha256": scan.sha256}).encode()}

    facts = {**prediction.facts(workdir, request, step), "temperature": temperature}
    outcome = prediction.write_all(request, facts, lambda file: (PART,), one, max_pixels=data.max_pixels, channel=data.channel)
    rows, sums = gather(pathlib.Path(request.output), prepared.classes)
    if seconds:
        whole = [end - start for start, end in outcome.spans]
        words = (f"p50 {np.median(values) * 1e3:.3g} ms" for values in (seconds, whole))
        print("device alone: {}; file to row, {} at a time: {} ({} images)".format(next(words), prediction.WORKERS, *words, len(seconds)))
    seen = lineage.trained_on(workdir) if (pathlib.Path(workdir) / "lineage.json").exists() else set()
    names = levels.parse(fields.option(data, "levels"))
    lines = accuracy_lines(rows, prepared.classes, names, [one in seen for one in sums])
    print("\n".join(lines) or f"{len(rows)} rows in {TABLE}.")
    prediction.refuse(request, outcome)
    return outcome


def temperature_of(workdir, step: int) -> tuple[float, int | None]:
    """Returns (temperature, the step it was fitted at) for a checkpoint: of its own step, else of the last scored one before; (1, None).

    From the log, for evaluation.json may be of other scans (`--mode=evaluate --input`).
    """
    found = {
        record["step"]: record[TEMPERATURE] for record in logbook.read(pathlib.Path(workdir) / "metrics.jsonl") if TEMPERATURE in record
    }
    before = [scored for scored in found if scored <= step]
    return (found[max(before)], max(before)) if before else (1.0, None)


def as_the_runs(scan: Scan, prepared: Prepared, data) -> Scan:
    """Returns the scan as the run's were before crops were cut: margins off, channels, levelled, at their scale, on their canvas, padded.

    DataError, naming the file, where it is of another kind than the run's scans, or smaller than their crop and nothing pads it.
    """
    name, value_map = scan.file or scan.id, prepared.value_map
    top, right, bottom, left = data.margins
    height, width = scan.pixels.shape[:2]
    if top + bottom >= height or left + right >= width:
        raise DataError(f"{name}: config.data.margins of the run leave nothing of {width} x {height} pixels")
    inside = np.ascontiguousarray(scan.pixels[top : height - bottom, left : width - right])
    own, _ = preparation.levelled(dataclasses.replace(scan, pixels=inside), data)
    if own.unit != value_map.unit:
        raise DataError(f"{name}: holds {own.unit}, the run was trained on {value_map.unit}; give scans of that kind (config.data.channel)")
    if value_map.dtype and str(own.pixels.dtype) != value_map.dtype:
        raise DataError(f"{name}: stores {own.pixels.dtype}, the run was trained on {value_map.dtype}; store it as its scans were")
    if value_map.nm_per_pixel:
        if own.nm_per_pixel is None:
            raise DataError(f"{name}: states no nm per pixel, the run's scans do; store its scale in the file")
        sides = zip(value_map.nm_per_pixel, (data.height, data.width), prepared.crop, strict=True)
        nm = math.sqrt(math.prod(trained * size / crop for trained, size, crop in sides))
        own = resampling.resampled(own, nm, resampling.factors(own, nm, data.max_pixels))
    own = preparation.framed(own, {}, data, max(prepared.crop))
    if any(side < crop for side, crop in zip(own.pixels.shape, prepared.crop, strict=False)):
        sizes = " and ".join(f"{columns} x {rows}" for rows, columns in (own.pixels.shape[:2], prepared.crop))
        raise DataError(f"{name}: is smaller than the run's crops ({sizes} px); give a larger image")
    return own


def described(scan: Scan, probabilities: np.ndarray, classes: tuple[str, ...]) -> dict:
    """Returns a scan's row: `file`, `id`, `predicted`, `confidence` and `probability NAME` of every class, 0..1."""
    best = int(probabilities.argmax())
    each = {f"probability {name}": float(value) for name, value in zip(classes, probabilities, strict=True)}
    return {"file": scan.file, "id": scan.id, "predicted": classes[best], "confidence": float(probabilities[best]), **each}


def _below(file: str, place: str) -> str:
    """The file's name relative to the folder that was given, its own where that was the file."""
    root = pathlib.Path(place).expanduser()
    return pathlib.Path(file).name if root.is_file() else pathlib.Path(file).relative_to(root).as_posix()


def gather(folder: pathlib.Path, classes: tuple[str, ...]) -> tuple[list[dict], list[str]]:
    """Returns (rows of all parts in the folder, the SHA-256 of the file of each, "" where the part of an earlier version has none).

    They then stand in predictions.csv; RunError where that cannot be.
    """
    columns = ["file", "id", "predicted", "confidence", *(f"probability {name}" for name in classes)]
    rows, sums = [], []
    for path in sorted(folder.rglob(f"*{PART}")):
        part = workdirs.read_object(path)
        sums.append(part.pop("sha256", ""))
        if sorted(part) != sorted(columns) or part["predicted"] not in classes:
            raise RunError(f"{path} is damaged: it is no prediction of these classes.\nRemove it, and the same command writes it anew.")
        rows.append({name: part[name] for name in columns})
    try:
        particle_table.write_table(folder / TABLE, rows)
    except OSError as error:
        raise RunError(f"{folder / TABLE} cannot be written: {error.strerror or error}.") from error
    return rows, sums


def accuracy_lines(rows: list[Mapping], classes: tuple[str, ...], names: tuple[str, ...] = (), trained: Sequence[bool] = ()) -> list[str]:
    """Returns what is printed of rows whose scans lie in folders named like classes: accuracy and its interval; nothing without any.

    `names` are the run's levels of folders. `trained` says which rows are of scans that the run was trained on: they are told, and the
    accuracy is that of the others, unless there are none.
    """
    trained = trained or [False] * len(rows)
    told = [(levels.class_of(row["id"], names), row["predicted"], own) for row, own in zip(rows, trained, strict=True) if "/" in row["id"]]
    known = [(truth, found, own) for truth, found, own in told if truth in classes]
    judged = [one for one in known if not one[2]] or known
    what, lines = "images", []
    if any(trained):
        what = "other images" if len(judged) < len(known) else "training images" if all(own for *_, own in known) else what
        lines.append(f"{sum(trained)} of {len(rows)} images are scans that the run was trained on (SHA-256 in its lineage.json).")
    if judged:
        pairs = ([classes.index(one[place]) for one in judged] for place in (0, 1))
        counts = confusion.matrix(*map(np.array, pairs), len(classes))
        low, high = confusion.wilson(int(np.trace(counts)), len(judged))
        lines.append(
            f"accuracy {confusion.accuracy(counts):.4g} (95 %: {low:.3g} .. {high:.3g}), "
            f"balanced {confusion.balanced_accuracy(counts):.4g}, macro-F1 {confusion.macro_f1(counts):.4g}, "
            f"of {len(judged)} {what} in folders of the run's classes{'; it tells nothing of others' if what.startswith('train') else ''}."
        )
    if len(known) < len(told):
        other = next(truth for truth, *_ in told if truth not in classes)
        lines.append(f"{len(told) - len(known)} images lie in folders that name no class of the run, such as {other}.")
    return lines
