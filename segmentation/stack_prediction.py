"""z-stacks segmented by a trained U-Net of stacks: mask and probability of each, and the clusters of all in one table.

A TIFF of any number of pages is one stack. Of "a": a_mask.tiff (uint8 pages: 0, 255), a_probability.tiff (float32 pages) and
a_clusters.json (its part of the tables). clusters.csv has a row a cluster (`microscopy.clusters`), stacks.csv a row a stack; an interrupted
run goes on as that of images does (`segmentation.prediction`).
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping

import numpy as np

from microscopy.clusters import measure_clusters
from microscopy.scan import Scan
from microscopy.stacks import read_stack
from microscopy.writing import encode_tiff_stack
from segmentation import prediction as predictions
from segmentation.inference import Network, Segmented, Timed, segment
from training import inputs, prediction, sources
from training.errors import ConfigError

PARTS = "_clusters.json"
SUFFIXES = ("_mask.tiff", "_probability.tiff", PARTS)
TABLES = ("clusters.csv", "stacks.csv")


def predict(network: Network, request: prediction.Request, facts: Mapping) -> prediction.Outcome:
    """Returns what came of it after every stack of `request.input` is segmented in `request.output`: `training.prediction.write_all`.

    Arguments and errors as for `segmentation.prediction.predict`. Prints how long a stack took.
    """
    predictions.check(request, network)
    if request.watch:
        raise ConfigError("--watch waits for images; of stacks give a folder, or one file at a time.")
    timed = Timed(network.probability)
    network, data = dataclasses.replace(network, probability=timed), network.data

    def one(scan: Scan) -> dict[str, bytes]:
        return contents(network, scan, timed.image(lambda: segment(network, scan, tile=request.tile)))

    def read(id: str, item: inputs.Item) -> Scan:
        return read_stack(id, item.file, max_pixels=data.max_pixels)

    facts = {**facts, "threshold": network.threshold, "min_voxels": network.min_area}
    within = functools.partial(predictions.tables, pathlib.Path(request.output), parts=PARTS, names=TABLES)
    options = {"max_pixels": data.max_pixels, "read": read, "parts": PARTS, "within": within}
    outcome = prediction.write_all(request, facts, lambda file: SUFFIXES, one, **options)
    predictions.print_times(timed, outcome, "stack", prediction.WORKERS)
    prediction.refuse(request, outcome)
    return outcome


def contents(network: Network, scan: Scan, found: Segmented) -> dict[str, bytes]:
    """Returns suffix -> content of the files of one segmented stack."""
    probability = np.moveaxis(found.probability, -1, 0)
    mask, plane_nm = probability > network.threshold, network.data.get("plane_nm", 0.0)
    scale = (plane_nm, *scan.nm_per_pixel) if plane_nm and scan.nm_per_pixel else None
    rows = [{"stack": scan.id, **row} for row in measure_clusters(mask, probability, scale, min_voxels=network.min_area)]
    planes, height, width = mask.shape
    stack = {"stack": scan.id, "planes": planes, "height_px": height, "width_px": width}
    if scale:
        stack |= dict(zip(("nm_per_voxel_z", "nm_per_voxel_y", "nm_per_voxel_x"), scale, strict=True))
    stack |= {"clusters": len(rows), "foreground": float(mask.mean())}
    return {
        "_mask.tiff": encode_tiff_stack(mask.astype(np.uint8) * 255, scan.nm_per_pixel),
        "_probability.tiff": encode_tiff_stack(probability, scan.nm_per_pixel),
        PARTS: json.dumps({"image": stack, "particles": rows, "source": sources.source(scan)}).encode(),
    }
