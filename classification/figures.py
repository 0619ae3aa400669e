"""The pictures of an evaluation: ROC curve of each class with its band, confusion matrix, reliability curve."""

from collections.abc import Mapping

import cv2
import numpy as np

from metrics import calibration, confusion, roc
from microscopy import pictures, plots

MAX_CURVES = 16
CELL, MARGIN, LEFT = 76, 64, 190
RATES = np.linspace(0, 1, 101)


def draw(found, temperature: float, classes: tuple[str, ...], words: str, config) -> Mapping[str, np.ndarray]:
    """Returns uint8 RGB pictures by name of a split's logits and labels (`judged.Judged`); `words` says which scans they are of."""
    probabilities = [np.exp(calibration.log_probabilities(found.logits, value)) for value in (1.0, temperature)]
    drawn = {"confusion matrix": matrix(confusion.matrix(found.labels, found.logits.argmax(1), len(classes)), classes, words)}
    drawn["reliability"] = reliability(*probabilities, found.labels, temperature, words)
    curves = roc_curves(probabilities[1], found.labels, classes, repeats=config.eval.num_bootstrap, seed=config.seed)
    return drawn | ({"ROC by class": curves} if curves is not None else {})


def roc_curves(probabilities, labels, classes: tuple[str, ...], *, repeats: int, seed: int) -> np.ndarray | None:
    """Returns a chart a class, of the first 16 that have scans: its ROC curve against the rest, chance, the 95 % band; None without any."""
    axes = plots.Axis("false positive rate", 0.0, 1.0), plots.Axis("true positive rate", 0.0, 1.0)
    charts = []
    for row in roc.one_vs_rest(probabilities, labels):
        if row["curve"] is None or len(charts) == MAX_CURVES:
            continue
        number = row["class"]
        title = f"{classes[number]} ({row['positives']}): AUC {row['auc']:.3f} ({row['low']:.3f} .. {row['high']:.3f})"
        curves = {"": row["curve"][:2], "chance": (np.array([0.0, 1.0]), np.array([0.0, 1.0]))}
        band = None
        if repeats:
            band = (RATES, *roc.band(probabilities[:, number], labels == number, RATES, repeats=repeats, seed=seed))
        charts.append(plots.chart(title, *axes, curves, band=band))
    return pictures.grid(np.stack(charts)) if charts else None


def matrix(counts: np.ndarray, classes: tuple[str, ...], words: str) -> np.ndarray:
    """Returns a picture of a confusion matrix: true classes in rows, darker for a larger share of the row, the numbers of scans in it."""
    num = len(classes)
    picture = np.full((MARGIN + num * CELL + 28, max(LEFT + num * CELL + 12, 520), 3), 255, np.uint8)
    plots.write(picture, 8, 20, f"{words}: true class in rows, what it was taken for in columns", scale=0.42)
    shares = np.nan_to_num(counts / np.maximum(counts.sum(1, keepdims=True), 1))
    for i in range(num):
        top = MARGIN + i * CELL
        plots.write(picture, LEFT - 8, top + CELL / 2 + 4, _short(classes[i], LEFT - 16), anchor="right")
        plots.write(picture, LEFT + (i + 0.5) * CELL, MARGIN - 10, _short(classes[i], CELL - 4), anchor="middle", scale=0.4)
        for j in range(num):
            left, share = LEFT + j * CELL, float(shares[i, j])
            colour = tuple(round(255 + share * (end - 255)) for end in plots.COLOURS[0])
            cv2.rectangle(picture, (left, top), (left + CELL, top + CELL), colour, -1)
            cv2.rectangle(picture, (left, top), (left + CELL, top + CELL), plots.PALE, 1)
            ink = plots.WHITE if share > 0.5 else plots.BLACK
            plots.write(picture, left + CELL / 2, top + CELL / 2, str(counts[i, j]), anchor="middle", colour=ink, scale=0.5)
            plots.write(picture, left + CELL / 2, top + CELL / 2 + 18, f"{100 * share:.0f} %", anchor="middle", colour=ink, scale=0.36)
    return picture


def _short(word: str, width: int) -> str:
    while len(word) > 1 and plots.text_width(word) > width:
        word = word[:-2] + "."
    return word


def reliability(before, after, labels, temperature: float, words: str) -> np.ndarray:
    """Returns a chart of how often the class found is right, by the confidence in it; before and after temperature scaling, and ideally."""
    both = [calibration.reliability(one, labels) for one in (before, after)]
    errors = [calibration.expected_error(one) for one in both]
    filled = [one.counts > 0 for one in both]
    curves = {
        f"at T = {temperature:.3g}, ECE {errors[1]:.3f}": (both[1].confidence[filled[1]], both[1].right[filled[1]]),
        f"as given, ECE {errors[0]:.3f}": (both[0].confidence[filled[0]], both[0].right[filled[0]]),
        "ideal": (np.array([0.0, 1.0]), np.array([0.0, 1.0])),
    }
    ends = [confusion.wilson(round(r * n), int(n)) for r, n in zip(both[1].right[filled[1]], both[1].counts[filled[1]], strict=True)]
    band = (both[1].confidence[filled[1]], *np.array(ends).T)
    axes = plots.Axis(f"confidence ({words})", 0.0, 1.0), plots.Axis("share that is right", 0.0, 1.0)
    return plots.chart("", *axes, curves, band=band)
