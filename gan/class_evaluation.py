"""What can be said of a class-conditional generator: the scores of all its images, and each class beside the real one."""

import dataclasses
from collections.abc import Callable

import numpy as np

from gan import copies, evaluation, scores
from microscopy.pictures import grid, to_uint8
from training.errors import RunError
from training.task import Data, Evaluation

COLUMNS = 8
"""Images of a class in a row of the pictures."""


def evaluate(make: Callable, data: Data, settings, values: Callable, inception_judge: scores.Judge | None) -> Evaluation:
    """Returns the scores of `gan.evaluation` for `settings.num_images` images, a table and pictures of each class.

    `make(labels (n,)) -> images`; the images scored have the classes of the real crops that they are scored against, so that
    the frequencies of the classes are no difference. `values(images, labels)` is the critic: its means, `critic/value_*`, say how far
    it tells training crops from held-out ones.
    """
    num, names = settings.num_images, data.prepared.classes
    reference = "held_out" if data.prepared.splits.get("held_out") else "train"
    real = {split: evaluation.gather(data, split, num) for split in dict.fromkeys(("train", reference))}
    labels = {split: evaluation.gather(data, split, num, "label") for split in real}
    if min(labels[reference]) < 0:
        raise RunError(
            f"the scans scored against are not all of the run's classes, {', '.join(names)}.\nGive scans in folders of these names."
        )
    images = make(labels[reference])
    found = evaluation.evaluate(images, data, None, inception_judge)
    means = {"generated": np.mean(values(images, labels[reference]))}
    means |= {split: np.mean(values(real[split], labels[split])) for split in real}
    scalars = {**found.scalars, **{f"critic/value_{name}": float(mean) for name, mean in means.items()}}
    rows_of_classes = _table(names, images, real[reference], labels[reference])
    numbers = np.repeat(np.arange(len(names)), COLUMNS)
    figures = {"generated a row a class": rows(make(numbers)), "training a row a class": rows(_some(real["train"], labels["train"], names))}
    protocol = f"{found.protocol.rstrip('.')}; rows of the pictures: {', '.join(names)}."
    tables = {f"Classes (generated and {reference.replace('_', '-')} crops; -1 to 1)": rows_of_classes, **found.tables}
    found = dataclasses.replace(found, scalars=scalars, tables=tables, figures=figures, protocol=protocol)
    return copies.with_copies(found, images[: settings.num_searched], data.prepared) if settings.num_searched else found


def rows(images: np.ndarray) -> np.ndarray:
    """Returns one uint8 picture (H, W, 1 or 3) of images (k * 8, h, w, c) in [-1, 1], eight a row."""
    picture = grid(to_uint8(images), COLUMNS)
    return picture if picture.ndim == 3 else picture[..., None]


def _some(images: np.ndarray, labels: np.ndarray, names) -> np.ndarray:
    """The first eight images of each class, white where there are fewer."""
    shown = np.ones((len(names), COLUMNS, *images.shape[1:]), np.float32)
    for label in range(len(names)):
        of_class = images[labels == label][:COLUMNS]
        shown[label, : len(of_class)] = of_class
    return shown.reshape(-1, *images.shape[1:])


def _table(names, generated: np.ndarray, real: np.ndarray, labels: np.ndarray) -> list[dict]:
    """A row a class: how many, mean grey level and diversity (`evaluation.pairwise_difference`) of generated and real images."""
    table = []
    for label, name in enumerate(names):
        made, there = generated[labels == label], real[labels == label]
        row = {"class": name, "n": len(made)}
        if len(made):
            pairs = (("generated", made), ("real", there))
            row |= {f"mean_{word}": float(np.mean(of)) for word, of in pairs}
            row |= {f"diversity_{word}": evaluation.pairwise_difference(of) for word, of in pairs}
        table.append(row)
    return table
