"""Images that come with their labels: the label field a generator draws as its last channel, as instances, and how good they are."""

import dataclasses

import jax.numpy as jnp
import numpy as np

import resize
from gan.evaluation import gather_all, luma
from metrics import overlap
from microscopy import alignment, fields, label_field, pictures
from microscopy.thresholds import otsu_mask, split_touching, without_specks
from training.task import Data, Evaluation

SHOWN = 36
COMPARED = 8


def split(images, config):
    """Returns (images (b, h, w, c), label fields (b, h, w) or None) of what a network of `config` takes and makes."""
    return (images, None) if fields.label_kind(config.data) == "none" else (images[..., :-1], images[..., -1])


def upscaled_instances(field: np.ndarray, size: tuple[int, int], min_area: int = 0, kind: str = "distance") -> np.ndarray:
    """Returns an int32 instance map of `size` (height, width) of a label field (h, w), enlarged by bilinear interpolation.

    `min_area` in pixels of the enlarged map; 0: `label_field.smallest_area`. One field at a time, so that it depends on nothing else.
    """
    enlarged = resize.bilinear(jnp.asarray(field)[None, :, :, None], *size)
    return label_field.instances(np.asarray(enlarged)[0, :, :, 0], min_area, kind)


def with_labels(evaluation: Evaluation, images: np.ndarray, data: Data, kind: str) -> Evaluation:
    """Returns the evaluation with what `scores` finds of images (n, h, w, c + 1) in [-1, 1], against held-out or else training crops.

    A figure shows generated images with their labels beside real crops with theirs.
    """
    for split_name in ("held_out", "train"):
        real, masks = gather_all(data, split_name, len(images), ("image", "mask"))
        if len(real):
            break
    scalars, rows = scores(images, real, masks, kind)
    tables = {**evaluation.tables, "Labels (count and coverage per image, diameter in px; F1 at an IoU of 0.5; shift in px)": rows}
    shown = np.concatenate([label_field.shown(one[:COMPARED]) for one in (images, real)])
    figures = {**evaluation.figures, "generated images and real crops with labels": pictures.grid(shown, columns=COMPARED)}
    words = f"labels: instances of the field, against Otsu's threshold and {len(real)} masked crops of {split_name.replace('_', '-')} scans"
    protocol = f"{evaluation.protocol.rstrip('.')}; {words}."
    scalars = {**evaluation.scalars, **scalars}
    return dataclasses.replace(evaluation, scalars=scalars, tables=tables, figures=figures, protocol=protocol)


def scores(images: np.ndarray, real: np.ndarray, masks: np.ndarray, kind: str = "distance"):
    """Returns (scalars, rows of a table) of drawn labels: images and real crops (n, h, w, c + 1), the crops' instance maps (n, h, w).

    For generated images and real crops (`_generated`, `_real`): particles per image, coverage, median diameter; F1 at an IoU of 0.5 of
    the label against what a detector without labels finds in the image (`detected`), so `_real` is what true masks get; how far the
    images lie from the labels (`alignment.common_shift`). `labels/f1_field`: instances of the real crops' fields against
    their masks, what the field itself loses.
    """
    (made, drawn), (there, true_field) = label_field.apart(images), label_field.apart(real)
    least = label_field.smallest_area(*images.shape[1:3])
    truth = np.stack([without_specks(label_field.numbered(mask), least) for mask in masks])
    bright = float(np.mean((luma(there) - luma(there).mean()) * true_field)) >= 0
    scalars, rows = {}, []
    for name, pixels, labels in (("generated", luma(made), _all(drawn, kind)), ("real", luma(there), truth)):
        f1 = f1_score([(label, detected(one, bright)) for one, label in zip(pixels, labels, strict=True)])
        found = {**_sizes(labels), "f1": f1, "shift": float(np.hypot(*alignment.common_shift(pixels, labels)))}
        scalars |= {f"labels/{key}_{name}": value for key, value in found.items()}
        rows.append({"images": name, "n": len(labels), **found})
    scalars["labels/f1_field"] = f1_score(list(zip(_all(true_field, kind), truth, strict=True)))
    return scalars, rows


def _all(drawn: np.ndarray, kind: str) -> np.ndarray:
    return np.stack([label_field.instances(one, kind=kind) for one in drawn])


def detected(image: np.ndarray, bright: bool = True) -> np.ndarray:
    """Returns an int32 instance map of an image (h, w) by Otsu's threshold, touching particles cut apart: no label is looked at."""
    least = label_field.smallest_area(*image.shape)
    return without_specks(split_touching(otsu_mask(image if bright else -image, 0.0)), least)


def f1_score(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Returns F1 of the objects of all pairs (one, other) of instance maps, matched at an IoU of 0.5; 1 where neither has any."""
    return overlap.panoptic_quality(sum(overlap.object_counts(one, other) for one, other in pairs))["rq"]


def _sizes(labels: np.ndarray) -> dict[str, float]:
    areas = [np.bincount(one.ravel())[1:] for one in labels]
    diameters = 2 * np.sqrt(np.concatenate(areas) / np.pi)
    return {
        "count": float(np.mean([len(one) for one in areas])),
        "coverage": float(np.mean(labels > 0)),
        "diameter": float(np.median(diameters)) if diameters.size else 0.0,
    }
