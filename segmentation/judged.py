"""How well whole scans are segmented: pixels, partitions and objects, beside what needs no network."""

import math
from collections.abc import Callable, Mapping

import numpy as np

from metrics import overlap
from microscopy.preparation import Prepared
from microscopy.scan import Scan
from microscopy.thresholds import otsu_mask, stack_otsu
from segmentation import instances, judged_figure, networks
from segmentation.whole import make_whole
from training.task import Evaluation, Score

BINARY = 0.9
"""An output of a tanh is called binary beyond this."""
NUM_SHOWN = 3


def evaluate(config, model: networks.UNet, probability: Callable, prepared: Prepared) -> Evaluation:
    """Returns the Evaluation of a network on whole scans: held out, and `config.eval.num_train_scans` of those trained on.

    `probability` takes images (1, h, w, c) in [-1, 1] and gives that of foreground, (1, h, w); stacks (1, d, h, w, 1) and (1, d, h, w), of
    which every voxel counts as pixels do. Scalars are `segmentation/NAME` of the
    held-out scans (of the training scans where none is held out, as the protocol says) and `segmentation/train_NAME`: means over the
    scans that have the score. One that none has, as precision where nothing is found, is no scalar, and NaN in the tables. The Score is
    the Jaccard distance, 1 - IoU.
    """
    whole, settings = make_whole(model, probability, prepared.crop[0] / config.data.height), config.eval
    parts = {"held_out": chosen(prepared.splits["held_out"], settings.num_scans)}
    if settings.num_train_scans:
        parts["train"] = chosen(prepared.splits["train"], settings.num_train_scans)
    if not parts["held_out"]:
        parts = {"train": chosen(prepared.splits["train"], settings.num_scans)}
    tables, scalars, figures = {}, {}, {}
    for split, scans in parts.items():
        found = [whole(unit_image(scan, prepared)) for scan in scans]
        own = [scores(one, scan, settings) for one, scan in zip(found, scans, strict=True)]
        rows = {name_of(model): own}
        rows |= baselines(scans, prepared, settings)
        name = "held-out" if split == "held_out" else "training"
        tables[f"{len(scans)} {name} scans, means"] = [{"by": by, **mean_row(each)} for by, each in rows.items()]
        prefix = "train_" if split == "train" and len(parts) > 1 else ""
        means = mean_row(own, errors=False)
        scalars |= {f"segmentation/{prefix}{key}": value for key, value in means.items() if not math.isnan(value)}
        if not figures:
            each = [{"scan": scan.id, **row} for scan, row in zip(scans, own, strict=True)]
            tables[f"{name} scans"] = each[:MOST_ROWS]
            figures["segmentation"] = figure(scans, found, own, prepared)
            what = f"{len(scans)} whole {name} scans"
    protocol = f"{what}; means over those that have the score; foreground where the probability is above 0.5; {_PROTOCOLS[len(model.pool)]}"
    if settings.objects:
        protocol += f"; found regions under {settings.min_area} px are left out, true ones of any size count"
    return Evaluation(scalars, tables, figures, protocol, Score("segmentation/jaccard_distance", 1 - scalars["segmentation/iou"], what))


MOST_ROWS = 50
_BY_PIXELS = "module and squaring of 2 p - 1 against the +-1 mask; binary: share of |2 p - 1| above 0.9"
_PROTOCOLS = {
    2: f"{_BY_PIXELS}; V_rand and V_info of 4-connected foreground, borders thinned; objects match above an IoU of 0.5",
    3: f"every voxel of a stack counts; {_BY_PIXELS}",
}


def name_of(model: networks.UNet) -> str:
    """Returns what a network's row of the tables is called."""
    if len(model.pool) == 2:
        return "network"
    return "3D network" if model.kernel[0] > 1 or model.pool[0] > 1 else "network, slice by slice"


def chosen(scans: list[Scan], num: int) -> list[Scan]:
    """Returns `num` of the scans, evenly spread over their order; all where `num` is 0 or more than they are."""
    if not 0 < num < len(scans):
        return scans
    return [scans[index * len(scans) // num] for index in range(num)]


def unit_image(scan: Scan, prepared: Prepared) -> np.ndarray:
    """Returns the scan as the network sees it, float32 (h, w, c) in [-1, 1]."""
    pixels = scan.pixels if scan.pixels.ndim == 3 else scan.pixels[..., None]
    return prepared.value_map.to_unit(pixels)


def scores(found: np.ndarray, scan: Scan, settings, objects: np.ndarray | None = None) -> dict[str, float]:
    """Returns the scores of a probability map (h, w) against the scan's mask: see `metrics.overlap`.

    `settings.partition` adds `v_rand` and `v_info`; `settings.objects` adds `ap50`, `pq`, `precision`, `recall`, the counts and
    `diameter_error` (relative difference of the mean diameters), of `objects`, an instance map, or what `instances` finds.
    """
    predicted, truth = found > 0.5, scan.mask > 0
    pixels = overlap.counts(predicted, truth)
    signed = 2 * np.asarray(found, np.float64) - 1
    row = {"iou": overlap.iou(pixels), "dice": overlap.dice(pixels), "percent": overlap.percent(pixels)}
    row |= {"module": overlap.module(signed, truth), "squaring": overlap.squaring(signed, truth)}
    row["binary"] = float(np.mean(np.abs(signed) > BINARY))
    if settings.partition:
        parts = overlap.partition_scores(predicted, truth)
        row |= {name: parts[name] for name in ("v_rand", "v_info")}
    if settings.objects:
        objects = instances.from_probability(found, min_area=settings.min_area) if objects is None else objects
        row |= object_scores(objects, scan.mask)
    return row


def object_scores(objects: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Returns `ap50`, `pq`, `precision`, `recall`, `objects`, `true_objects` and `diameter_error` of two instance maps (h, w)."""
    counts = overlap.object_counts(objects, truth)
    row = {"ap50": overlap.average_precision(counts), "pq": overlap.panoptic_quality(counts)["pq"]}
    row |= {"precision": overlap.precision(counts), "recall": overlap.recall(counts)}
    row |= {"objects": float(counts[0] + counts[1]), "true_objects": float(counts[0] + counts[2])}
    sizes = [mean_diameter(one) for one in (objects, truth)]
    return row | {"diameter_error": abs(sizes[0] / sizes[1] - 1) if sizes[1] else math.nan}


def mean_diameter(objects: np.ndarray) -> float:
    """Returns the mean diameter, px, of discs of the objects' areas; 0 without any, NaN never."""
    areas = np.unique(objects[objects > 0], return_counts=True)[1]  # ids may be anything up to 2^31
    return float(np.mean(2 * np.sqrt(areas / math.pi))) if areas.size else 0.0


def baselines(scans: list[Scan], prepared: Prepared, settings) -> dict[str, list[dict[str, float]]]:
    """Returns rows of what needs no network: everything foreground, and Otsu's threshold.

    Of objects the threshold's side that covers less of the scan, cut apart by a watershed; else the side, above or below, that has the
    higher mean IoU over all scans. Stacks have one threshold for all planes.
    """
    everything = [scores(np.ones(scan.mask.shape), scan, settings) for scan in scans]
    if settings.objects:
        found = [instances.otsu_watershed(unit_image(scan, prepared).mean(-1), min_area=settings.min_area) for scan in scans]
        rows = [scores((one > 0).astype(np.float64), scan, settings, one) for one, scan in zip(found, scans, strict=True)]
    else:
        masks = [_by_threshold(unit_image(scan, prepared), scan.mask.ndim) for scan in scans]
        sides = [
            [scores((mask == side).astype(np.float64), scan, settings) for mask, scan in zip(masks, scans, strict=True)] for side in (1, 0)
        ]
        rows = max(sides, key=lambda side: mean_row(side, errors=False)["iou"])
    return {"everything foreground": everything, "Otsu's threshold": rows}


def _by_threshold(image: np.ndarray, axes: int) -> np.ndarray:
    return stack_otsu(image) if axes == 3 else otsu_mask(image.mean(-1))


def mean_row(rows: list[Mapping[str, float]], errors: bool = True) -> dict[str, float]:
    """Returns each score's mean over the rows that have it, with `errors` also its standard error as NAME_error; NaN where none has."""
    found = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows], np.float64)
        values = values[~np.isnan(values)]
        found[name] = float(values.mean()) if values.size else math.nan
        if errors and values.size > 1:
            found[f"{name}_error"] = float(values.std(ddof=1) / np.sqrt(values.size))
    return found


def figure(scans: list[Scan], found: list[np.ndarray], rows: list[Mapping[str, float]], prepared: Prepared) -> np.ndarray:
    """Returns a picture, uint8 RGB: the scans of the highest, the middle and the lowest Jaccard index (see `judged_figure.draw`).

    Of stacks it shows the middle planes.
    """
    order = np.argsort([-row["iou"] for row in rows], kind="stable")
    picked = [int(order[i]) for i in np.unique(np.linspace(0, len(order) - 1, min(NUM_SHOWN, len(order))).astype(int))]
    images, maps, masks = zip(*(_shown(unit_image(scans[i], prepared), found[i], scans[i].mask) for i in picked), strict=True)
    words = [f"{scans[i].id}: IoU {rows[i]['iou']:.3f}" for i in picked]
    return judged_figure.draw(list(images), list(maps), list(masks), words)


def _shown(image: np.ndarray, found: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of a stack the middle plane."""
    if mask.ndim == 2:
        return image, found, mask
    plane = mask.shape[2] // 2
    return image[..., plane : plane + 1], found[..., plane], mask[..., plane]
