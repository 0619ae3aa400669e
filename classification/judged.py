"""How well scans are classified: each once, by its centre crop; with intervals, calibration and ROC curves."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from classification import figures
from classification.views import make_view
from metrics import calibration, confusion, roc
from microscopy.preparation import Prepared
from microscopy.scan import DataError, Scan
from training.task import Evaluation, Score

CHUNK = 32
NAMES = {"held_out": "held-out", "test": "test", "train": "training"}


class Judged(NamedTuple):
    """What a network said of the scans of a split: `logits` float64 (n, num_classes), `labels` int (n)."""

    logits: np.ndarray
    labels: np.ndarray


def evaluate(config, logits: Callable, prepared: Prepared, fitted: tuple[float, int | None] | None = None) -> Evaluation:
    """Returns the Evaluation of a network on the held-out scans, the test scans where there are some, and some of the training scans.

    `logits` takes images (n, h, w, c) in [-1, 1]. Scalars are `classification/NAME` of the held-out scans (of the training scans
    where none is held out), `classification/test_NAME` and `classification/train_NAME`. The temperature is fitted on the first of
    them, or is the one `fitted`, with the step at which it was (`prediction.temperature_of`). The Score is their negative log-likelihood
    at it. DataError for a scan of a class that the run does not know.
    """
    splits = prepared.splits
    first = "held_out" if splits["held_out"] else "train"
    parts = {first: splits[first], "test": splits.get("test", [])}
    if config.eval.num_train_scans and first != "train":
        num = min(config.eval.num_train_scans, len(splits["train"]))
        parts["train"] = [splits["train"][index * len(splits["train"]) // num] for index in range(num)]  # sorted by class: spread
    view = make_view(prepared, config.data, CHUNK)
    found = {name: judged(scans, view, logits, prepared.classes) for name, scans in parts.items() if scans}
    temperature = fitted[0] if fitted else calibration.fit_temperature(*found[first])
    rows = {name: scores(one, temperature, config.eval.num_bootstrap, config.seed) for name, one in found.items()}
    scalars = {f"classification/{name}": value for name, value in _finite(rows[first]).items()}
    for name in list(rows)[1:]:
        scalars |= {f"classification/{name}_{key}": value for key, value in _finite(rows[name]).items()}
    scalars["classification/temperature"] = temperature
    tables = {"scores": [{"scans": f"{len(found[name].labels)} {NAMES[name]}", **_plain(row)} for name, row in rows.items()]}
    shown = "test" if "test" in found else first
    for name in dict.fromkeys((shown, first)):
        tables |= split_tables(found[name], temperature, prepared.classes, NAMES[name])
    what = f"{len(parts[first])} {NAMES[first]} scans"
    score = Score("classification/calibrated_nll", scalars["classification/calibrated_nll"], what)
    drawn = figures.draw(found[shown], temperature, prepared.classes, f"{len(found[shown].labels)} {NAMES[shown]} scans", config)
    others = "".join(f", {len(found[name].labels)} {NAMES[name]} scans" for name in list(found)[1:])
    return Evaluation(scalars, tables, drawn, protocol(config, prepared, what, others, shown, fitted), score)


def protocol(config, prepared: Prepared, what: str, others: str, shown: str, fitted: tuple[float, int | None] | None = None) -> str:
    """Returns the sentence that says what the scores were taken on; `fitted` as for `evaluate`."""
    crop, data = prepared.crop, config.data
    repeats = config.eval.num_bootstrap
    heat = f"that minimises the negative log-likelihood of these {what} (so their own calibrated scores are optimistic)"
    if fitted:
        heat = "1, since the run has fitted none" if fitted[1] is None else f"that the run fitted on its own scans at step {fitted[1]:,}"
    return (
        f"{what}{others}, each seen once: its middle {crop[1]} x {crop[0]} px at {data.width} x {data.height}; "
        f"probabilities at the temperature {heat}; intervals of 95 %: Wilson for accuracy, DeLong for the area of each class against the "
        f"rest, {repeats} bootstrap draws for their mean and bands; calibration error in {calibration.NUM_BINS} bins; "
        f"pictures of the {NAMES[shown]} scans; "
        "the best checkpoint has the lowest calibrated negative log-likelihood"
    )


def judged(scans: Sequence[Scan], view: Callable, logits: Callable, classes: tuple[str, ...]) -> Judged:
    """Returns the logits and labels of scans, `CHUNK` at a time; DataError for the first whose class is not among `classes`."""
    numbers = {name: number for number, name in enumerate(classes)}
    for scan in scans:
        if scan.label not in numbers:
            what = "has no class" if scan.label is None else f"is of the class {scan.label}"
            raise DataError(
                f"{scan.file or scan.id}: {what}; the run knows {', '.join(classes[:8])}.\nName the folders as those it was trained on."
            )
    rows = []
    for start in range(0, len(scans), CHUNK):
        images = view(scans[start : start + CHUNK])
        filled = np.pad(images, [(0, CHUNK - len(images)), *[(0, 0)] * 3])
        rows.append(np.asarray(logits(filled), np.float64)[: len(images)])
    return Judged(np.concatenate(rows), np.array([numbers[scan.label] for scan in scans]))


def scores(found: Judged, temperature: float, repeats: int, seed: int) -> dict[str, float]:
    """Returns the scores of a split, all in 0..1 but the likelihoods (nats a scan); NaN where a split has scans of one class alone.

    `auc` is the mean over the classes; `ece` and `nll` are of the probabilities as the network gives them, `calibrated_` ones at the
    temperature.
    """
    counts = confusion.matrix(found.labels, found.logits.argmax(1), found.logits.shape[1])
    row = {"accuracy": confusion.accuracy(counts)}
    row["accuracy_low"], row["accuracy_high"] = confusion.wilson(int(np.trace(counts)), len(found.labels))
    row |= {"balanced_accuracy": confusion.balanced_accuracy(counts), "macro_f1": confusion.macro_f1(counts)}
    area = roc.mean_auc(probabilities(found, temperature), found.labels, repeats=repeats, seed=seed)
    row |= {"auc": area["auc"], "auc_low": area["low"], "auc_high": area["high"]}
    for prefix, value in (("", 1.0), ("calibrated_", temperature)):
        row[f"{prefix}nll"] = calibration.nll(*found, value)
        row[f"{prefix}ece"] = calibration.expected_error(calibration.reliability(probabilities(found, value), found.labels))
    return row


def probabilities(found: Judged, temperature: float) -> np.ndarray:
    """Returns the probability of each class at the temperature, float64 (n, num_classes)."""
    return np.exp(calibration.log_probabilities(found.logits, temperature))


def split_tables(found: Judged, temperature: float, classes: tuple[str, ...], name: str) -> dict[str, list[dict]]:
    """Returns a split's table of classes (precision, recall, F1, area with its interval) and its confusion matrix, true classes in rows."""
    counts = confusion.matrix(found.labels, found.logits.argmax(1), len(classes))
    areas = roc.one_vs_rest(probabilities(found, temperature), found.labels)
    own = zip(
        classes, counts.sum(1), confusion.precisions(counts), confusion.recalls(counts), confusion.f1_scores(counts), areas, strict=True
    )
    each = [
        {"class": label, "scans": int(num), **_plain({"precision": precision, "recall": recall, "f1": f1})}
        | _plain({f"auc{suffix}": area[key] for suffix, key in (("", "auc"), ("_low", "low"), ("_high", "high"))})
        for label, num, precision, recall, f1, area in own
    ]
    matrix = [
        {"true": label, **{f"as {other}": int(num) for other, num in zip(classes, row, strict=True)}}
        for label, row in zip(classes, counts, strict=True)
    ]
    return {f"{name} scans by class": each, f"{name} scans, true class and what it was taken for": matrix}


def _finite(row: Mapping[str, float]) -> dict[str, float]:
    """The log holds no NaN."""
    return {name: value for name, value in row.items() if math.isfinite(value)}


def _plain(row: Mapping[str, float]) -> dict:
    """JSON knows no NaN."""
    return {name: float(value) if math.isfinite(value) else None for name, value in row.items()}
