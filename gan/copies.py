"""Which generated images are copies of the scans they were learned from."""

import dataclasses
import sys
from typing import Any

import numpy as np

from metrics.memorisation import memorisation
from microscopy.flaws import luma
from microscopy.preparation import Prepared
from microscopy.scan import DataError
from training.task import Evaluation

SHOWN = 10


def with_copies(evaluation: Evaluation, images: np.ndarray, prepared: Prepared) -> Evaluation:
    """Returns the evaluation with what a search of images (n, h, w, c) in [-1, 1] in the training scans found (`copies`)."""
    scalars, rows, sentence = copies(images, prepared)
    tables = {**evaluation.tables, "Images most alike to a place in a training scan (x and y in px of the scan)": rows}
    protocol = f"{evaluation.protocol.rstrip('.')}; {sentence}."
    return dataclasses.replace(evaluation, scalars={**evaluation.scalars, **scalars}, tables=tables, protocol=protocol)


def copies(images: np.ndarray, prepared: Prepared) -> tuple[dict[str, float], list[dict[str, Any]], str]:
    """Returns (scalars, rows of a table, the sentence for the protocol) of a search of images in the training scans.

    `copies/share` is that of the images called copies, calibrated on crops of the held-out scans; `copies/sensitivity` the share of
    planted copies that the search finds: where it is low, a share of 0 says nothing. Without held-out scans only the similarities are
    told. The rows are the images most alike, with the scan, the place (px of the scan) and the turn. See `metrics.memorisation`.
    """
    train, held_out = ([_map(scan.pixels, prepared) for scan in prepared.splits[name]] for name in ("train", "held_out"))
    print(f"searching {len(images)} images in {len(train)} training scans for copies ...", file=sys.stderr, flush=True)
    scale = prepared.crop[1] / images.shape[2]
    try:
        found = memorisation(train, held_out, images, scale=scale)
    except DataError as error:
        return {}, [], f"copies: not searched for ({str(error).rstrip('.')})"
    scalars = {"copies/similarity_median": float(np.median(found.similarity)), "copies/similarity_largest": float(found.similarity.max())}
    notes = f"copies: {len(images)} images in {len(train)} training scans"
    if found.copied is not None:
        scalars |= {"copies/share": found.copied_share, "copies/threshold": found.threshold, "copies/sensitivity": found.sensitivity}
        notes += f", threshold by {len(found.held_out)} crops of {len(held_out)} held-out scans"
    rows = []
    for index in np.argsort(-found.similarity, kind="stable")[:SHOWN]:
        scan, (y, x) = prepared.splits["train"][found.scan[index]], found.place[index]
        row = {"image": int(index), "similarity": float(found.similarity[index]), "scan": scan.file or scan.id}
        row |= {"x": float(x), "y": float(y), "angle": float(found.angle[index]), "mirrored": bool(found.mirrored[index])}
        rows.append(row | ({} if found.copied is None else {"copy": bool(found.copied[index]), "p": float(found.p_value[index])}))
    return scalars, rows, notes


def _map(pixels: np.ndarray, prepared: Prepared) -> np.ndarray:
    """One channel in [-1, 1], as the network saw it."""
    return prepared.value_map.to_unit(luma(pixels) if pixels.ndim == 3 else pixels)
