"""Are generated images copies of the scans a generator was trained on? Each one's most similar place, against what held-out scans get."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from metrics.matching import Places, find_places
from microscopy.flaws import luma
from microscopy.scan import DataError

FALSE_ALARMS = 0.01
ENOUGH_SCANS = 5
EULER = 0.5772156649
NUM_CALIBRATION = 299
GAMMA, NOISE = 1.25, 0.1


class Memorisation(NamedTuple):
    """What `memorisation` found for each of n generated images, and what it rests on.

    `similarity` float64 (n), -1..1; `scan` int64 (n), index into the training scans; `place` float64 (n, 2), centre (y, x) in the scan's
    own pixels; `angle` float64 (n), degrees in 0..360; `mirrored` bool (n); `scale` float64 (n), scan pixels per image pixel: the pixel
    at (dy, dx) from the image's centre, dx negated where mirrored, lies `scale` (dy cos + dx sin, dx cos - dy sin) from the place.
    `copied` bool (n): `similarity` above `threshold`. `p_value` float64 (n): (1 + held-out crops at least as similar) / (1 + their number).
    `copied_share` 0..1. `sensitivity` 0..1: the share of planted copies called copies. `held_out` float64 (m): the held-out crops'
    similarities, rising. Without held-out scans `copied`, `threshold`, `p_value`, `copied_share`, `sensitivity` and `held_out` are None.
    """

    similarity: np.ndarray
    scan: np.ndarray
    place: np.ndarray
    angle: np.ndarray
    mirrored: np.ndarray
    scale: np.ndarray
    copied: np.ndarray | None = None
    threshold: float | None = None
    p_value: np.ndarray | None = None
    copied_share: float | None = None
    sensitivity: float | None = None
    held_out: np.ndarray | None = None


def memorisation(
    training: Sequence[np.ndarray],
    held_out: Sequence[np.ndarray],
    generated: np.ndarray,
    *,
    scale: float = 1.0,
    scales: Sequence[float] = (1.0,),
    num_calibration: int = NUM_CALIBRATION,
    num_planted: int = 100,
    seed: int = 0,
) -> Memorisation:
    """Returns for each generated image its most similar place in the training scans, and whether it is a copy of it (`Memorisation`).

    `training` and `held_out` are whole scans (h, w) or (h, w, 3) of any real dtype; `generated` (n, h, w) or (n, h, w, c) by a network
    trained on crops of `training`, `scale` = the crop's width in scan pixels over the image's. Colour counts as its luma. Of an image the
    disc inscribed in its central square is compared, by the correlation of `matching.find_places`. Covered are copies turned by any
    angle, mirrored, shifted, of other gain, offset and tilt, and to a degree of another gamma, blurred or noisy; not inverted
    contrast, and another magnification only about those in `scales` (factors on `scale`; each costs a search).

    Calibration: `num_calibration` random crops of `held_out` go through the same search. `threshold` is their largest similarity (of
    299 independent ones it exceeds the 99 % quantile with 95 % confidence: Wilks, Ann. Math. Stat. 12, 91, 1941) or, where larger, a
    quantile of a Gumbel distribution (of maxima over many places; by moments, on Fisher's z): the 99.5 % one, and because crops of
    few scans are not independent, the 99.9, 99.8, 99.7 or 99.6 % one for 1, 2, 3 or 4 held-out scans. So at most about 1 % of the honest
    images of scans like the held-out ones are called; three or more held-out scans are advised. Held-out
    scans that show what training scans show raise it. An image unlike any held-out crop may be called though nothing was
    copied: look at the place. `num_planted` crops of the training scans, turned, mirrored, of another gamma (0.8..1.25) and
    with noise of a tenth of their standard deviation, give `sensitivity`: where it is low (lattices, near-constant scans), copies
    cannot be told, and that none is called says nothing.

    Deterministic given `seed`; each image's result does not depend on the other images. Raises DataError for no training scans or images,
    values that are not finite, shapes that are no images, numbers out of range, and scans too small for a crop.
    """
    images = _images(generated)
    _check(scale, scales, num_calibration, num_planted)
    if not len(training):
        raise DataError("no training scans: give the scans the generator was trained on.")
    training, held_out = ([_scan(scan, f"{what} scan {i}") for i, scan in enumerate(scans)] for what, scans in _named(training, held_out))
    size, random = images.shape[1], np.random.default_rng(seed)
    crops = np.zeros((0, size, size), np.float32)
    planted = crops
    if held_out:
        crops = random_crops(held_out, num_calibration, size, scale, random)
        planted = _recontrasted(random_crops(training, num_planted, size, scale, random), random)
    places, factor = _search(np.concatenate([images, crops, planted]), training, [scale * part for part in scales])
    parts = np.split(places.similarity, [len(images), len(images) + len(crops)])
    found = [array[: len(images)] for array in (*places, factor)]
    similarity, scan, y, x, angle, mirrored, factor = found
    result = Memorisation(similarity, scan, np.stack([y, x], -1), angle, mirrored, factor)
    return _called(result, *parts[1:], len(held_out)) if held_out else result


def random_crops(scans: Sequence[np.ndarray], num: int, size: int, scale: float, random: np.random.Generator) -> np.ndarray:
    """Returns float32 (num, size, size), crops of `scale` x `size` scan pixels reduced by area, at random places, angles and mirrorings.

    Scans (h, w) take turns by their share of the pixels. The crop's whole square lies inside the scan; where that leaves no room at
    an angle, the next quarter turn is taken. Raises DataError when no scan is as large as a crop.
    """
    side = max(size, round(size * scale))
    large = [scan for scan in scans if min(scan.shape) >= size * scale]
    if not large:
        raise DataError(f"crops of {size * scale:g} pixels are larger than every scan to cut them from: check `scale`.")
    weight = np.array([scan.size for scan in large], float)
    crops = np.empty((num, size, size), np.float32)
    for index in range(num):
        scan = large[random.choice(len(large), p=weight / weight.sum())]
        angle, mirrored = random.uniform(0, 2 * math.pi), random.random() < 0.5
        half = size * scale / 2
        if half * (abs(math.cos(angle)) + abs(math.sin(angle))) > min(scan.shape) / 2:
            angle = round(angle / (math.pi / 2)) * (math.pi / 2)
        reach = half * (abs(math.cos(angle)) + abs(math.sin(angle)))
        centre = [random.uniform(min(reach, length / 2), max(length - reach, length / 2)) - 0.5 for length in scan.shape]
        crops[index] = _cut(scan, centre, angle, mirrored, side, size * scale / side, size)
    return crops


def _cut(scan, centre, angle, mirrored, side, step, size) -> np.ndarray:
    cos, sin, flip = math.cos(angle) * step, math.sin(angle) * step, -1 if mirrored else 1
    turn, middle = np.array([[cos * flip, -sin], [sin * flip, cos]]), (side - 1) / 2
    matrix = np.column_stack([turn, np.array(centre[::-1]) - turn @ [middle, middle]])
    options = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REPLICATE}
    crop = cv2.warpAffine(scan, matrix, (side, side), **options)
    return cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)


def _recontrasted(crops: np.ndarray, random: np.random.Generator) -> np.ndarray:
    low, high = (edge(crops, axis=(1, 2), keepdims=True) for edge in (np.min, np.max))
    share = (crops - low) / np.maximum(high - low, 1e-30)
    gamma = GAMMA ** random.uniform(-1, 1, (len(crops), 1, 1))
    changed = share**gamma
    return (changed + NOISE * changed.std(axis=(1, 2), keepdims=True) * random.normal(size=crops.shape)).astype(np.float32)


def _search(images: np.ndarray, training: list[np.ndarray], scales: list[float]) -> tuple[Places, np.ndarray]:
    """Returns (places with y and x in the scans' own pixels, scan pixels per image pixel (n)); the scale that fits best is taken."""
    reduced, origin = [], []
    for scale in scales:
        for index, scan in enumerate(training):
            height, width = (max(1, round(length / scale)) for length in scan.shape)
            reduced.append(cv2.resize(scan, (width, height), interpolation=cv2.INTER_AREA))
            origin.append((index, scan.shape[0] / height, scan.shape[1] / width, scale))
    places = find_places(images, reduced)
    scan, step_y, step_x, scale = np.array(origin)[places.scan].T
    y, x = (places.y + 0.5) * step_y - 0.5, (places.x + 0.5) * step_x - 0.5
    return places._replace(scan=scan.astype(np.int64), y=y, x=x), scale


def _called(found: Memorisation, honest: np.ndarray, planted: np.ndarray, num_scans: int) -> Memorisation:
    """Returns the finding with its calibration by the similarities of held-out crops and of planted copies."""
    threshold = _threshold(honest, num_scans)
    copied = found.similarity > threshold
    return found._replace(
        copied=copied,
        threshold=threshold,
        p_value=(1 + (honest >= found.similarity[:, None]).sum(1)) / (1 + len(honest)),
        copied_share=float(copied.mean()),
        sensitivity=float((planted > threshold).mean()),
        held_out=np.sort(honest),
    )


def _threshold(honest: np.ndarray, num_scans: int) -> float:
    z = np.arctanh(np.clip(honest, -1, 1 - 1e-6))
    # Half the share, because the fit of 50 draws is off by about as much; less from few scans, whose crops are alike.
    share = FALSE_ALARMS / 2 * min(1, num_scans / ENOUGH_SCANS)
    spread = z.std(ddof=1) * math.sqrt(6) / math.pi
    gumbel = z.mean() - EULER * spread - spread * math.log(-math.log(1 - share))
    return float(np.tanh(max(z.max(), gumbel)))


def _named(training, held_out):
    return (("training", training), ("held-out", held_out))


def _scan(scan: np.ndarray, name: str) -> np.ndarray:
    """Returns float32 (h, w) with values about 0."""
    scan = np.asarray(scan)
    if scan.ndim == 3 and scan.shape[2] == 1:
        scan = scan[..., 0]
    if scan.dtype.kind not in "uif" or scan.ndim not in (2, 3) or (scan.ndim == 3 and scan.shape[2] != 3) or not scan.size:
        raise DataError(f"{name}: shape {scan.shape} and type {scan.dtype}; a scan is (h, w) or (h, w, 3) of numbers.")
    if not np.isfinite(scan).all():
        raise DataError(f"{name}: it holds values that are not finite; leave it out or fill them.")
    values = scan.astype(np.float64)
    # Off its mean first: float32 holds no heights of a nanometre above an offset of a millimetre.
    values = (values - values.mean()).astype(np.float32)
    return luma(values)


def _images(generated: np.ndarray) -> np.ndarray:
    """Returns float32 (n, s, s), the central squares."""
    generated = np.asarray(generated)
    if generated.ndim not in (3, 4) or not len(generated):
        raise DataError(f"generated images: shape {generated.shape}; (n, h, w) or (n, h, w, c) with at least one image is needed.")
    images = np.stack([_scan(image, f"generated image {index}") for index, image in enumerate(generated)])
    height, width = images.shape[1:]
    size = min(height, width)
    top, left = (height - size) // 2, (width - size) // 2
    return images[:, top : top + size, left : left + size]


def _check(scale: float, scales: Sequence[float], num_calibration: int, num_planted: int) -> None:
    if not len(scales) or not all(0 < factor < math.inf for factor in (scale, *scales)):
        raise DataError(f"scale {scale!r}, scales {tuple(scales)!r}: scan pixels per image pixel and factors on it, all above 0.")
    if num_calibration < 50 or num_planted < 1:
        raise DataError(f"num_calibration {num_calibration}, num_planted {num_planted}: at least 50 and 1 are needed.")
