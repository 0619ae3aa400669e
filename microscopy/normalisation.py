"""The one map from stored values to [-1, 1] that a data set shares, and the split of scans it is fitted on."""

import dataclasses
import re

import numpy as np

from microscopy.scan import DataError, FieldError, Scan

PERCENTILES = (0.1, 99.9)
_MAX_VALUES = 20_000_000


@dataclasses.dataclass(frozen=True)
class ValueMap:
    """`low` becomes -1 and `high` +1, in `unit`; `clipped` is the share of training values outside, at each end.

    `nm_per_pixel` (y, x) is that of a crop's own pixels after its reduction to the training size, None without units. `dtype` is what
    grey levels are stored as ("uint8"), "" of heights and where it is not known.
    """

    low: float
    high: float
    unit: str
    clipped: tuple[float, float]
    nm_per_pixel: tuple[float, float] | None = None
    dtype: str = ""

    def to_unit(self, values: np.ndarray) -> np.ndarray:
        """Returns float32 in [-1, 1], clipped."""
        scaled = (values.astype(np.float64) - self.low) * (2.0 / (self.high - self.low)) - 1.0
        return np.clip(scaled, -1.0, 1.0).astype(np.float32)

    def from_unit(self, values: np.ndarray) -> np.ndarray:
        """Returns float32 in `unit` for values in [-1, 1]."""
        return ((values.astype(np.float64) + 1.0) * ((self.high - self.low) / 2.0) + self.low).astype(np.float32)


def fit(scans: list[Scan], given: tuple[float, float] | None = None) -> ValueMap:
    """Returns the map of the training scans: their 0.1 and 99.9 percentile over all pixels, or the range `given` (low, high).

    Beyond 20 million values a seeded random sample of pixels is used. DataError where the scans are constant, and as by `check_alike`.
    """
    check_alike(scans)
    share = min(1.0, _MAX_VALUES / sum(scan.pixels.size for scan in scans))
    random = np.random.default_rng(0)  # whole pixels at random: a stride could fall in step with rows or channels
    values = np.concatenate([_some(scan.pixels, share, random).reshape(-1) for scan in scans])
    low, high = given or (float(v) for v in np.percentile(values, PERCENTILES))
    if not high > low:
        low, high = float(values.min()), float(values.max())
    if not high > low:
        raise DataError(
            f"all {len(scans)} training scans hold the one value {low}: there is nothing to learn. Check the folder and the margins."
        )
    clipped = (float(np.mean(values < low)), float(np.mean(values > high)))
    unit = scans[0].unit
    return ValueMap(low, high, unit, clipped, dtype=str(scans[0].pixels.dtype) if unit == "grey" else "")


def check_alike(scans: list[Scan]) -> None:
    """Raises DataError, naming a file of each kind, where scans mix heights and grey levels, or grey levels of different stored types."""
    first = {scan.unit: scan for scan in scans}
    units = sorted(first)
    if len(units) > 1:
        named = ", ".join(f"{scan.file or scan.id} is {unit}" for unit, scan in sorted(first.items()))
        raise DataError(f"the scans mix {' and '.join(units)}: {named}.\nTrain on one kind at a time: choose some with config.data.select.")
    first = {str(scan.pixels.dtype): scan for scan in scans}
    if len(first) > 1 and units == ["grey"]:
        named = ", ".join(f"{scan.file or scan.id} is {dtype}" for dtype, scan in sorted(first.items()))
        raise DataError(
            f"the scans store grey levels in different ways: {named}.\nConvert them to one, or choose some with config.data.select."
        )


def _some(pixels: np.ndarray, share: float, random) -> np.ndarray:
    flat = pixels.reshape(pixels.shape[0] * pixels.shape[1], -1)
    return flat if share == 1.0 else flat[random.integers(0, len(flat), max(1, round(share * len(flat))))]


def split(scans: list[Scan], seed: int, held_out: float, test: float) -> dict[str, list[Scan]]:
    """Returns {"train", "held_out", "test"} -> scans; whole groups, so no crop of a training scan is ever held out.

    Each share is rounded, at least one group where the share is positive and three groups or more exist; fewer groups
    all train. Where scans have classes the shares are of each class's groups: a class of two groups or more is held out and trained on, of
    three or more also in the test, as far as groups of several classes let it. FieldError where nothing is left to train on.
    """
    groups = sorted({scan.group or scan.id for scan in scans})
    order = [groups[i] for i in np.random.default_rng(seed).permutation(len(groups))]
    counts = [max(1, round(share * len(order))) if share > 0 and len(order) >= 3 else 0 for share in (held_out, test)]
    if sum(counts) >= len(order):
        what = "scans" if len(groups) == len(scans) else f"groups of the {len(scans)} scans"
        raise FieldError(f"config.data.held_out={held_out} and test={test} leave none of {len(order)} {what} to train on; lower them.")
    if len(order) >= 3 and any(scan.label is not None for scan in scans):
        of_group = _by_class(scans, order, {"held_out": held_out, "test": test})
    else:
        ends = {"held_out": order[: counts[0]], "test": order[counts[0] : sum(counts)]}
        of_group = {name: part for part, names in ends.items() for name in names}
    of_group = {name: of_group.get(name, "train") for name in order}
    return {name: [scan for scan in scans if of_group[scan.group or scan.id] == name] for name in ("train", "held_out", "test")}


def _by_class(scans: list[Scan], order: list[str], shares: dict[str, float]) -> dict[str, str]:
    """{group: part} of the groups that are not trained on: of each class its share, the rarest first, never a class's last group."""
    classes = {group: set() for group in order}
    for scan in scans:
        classes[scan.group or scan.id].add(scan.label or "")
    of_class = {label: [group for group in order if label in classes[group]] for label in sorted(set.union(*classes.values()))}
    taken, left = {}, {label: len(groups) for label, groups in of_class.items()}
    for part, share in shares.items():
        missing = {label: max(1, round(share * len(groups))) if share > 0 else 0 for label, groups in of_class.items()}
        for label, groups in sorted(of_class.items(), key=lambda item: len(item[1])):
            for group in groups:
                if missing[label] > 0 and group not in taken and all(left[other] >= 2 for other in classes[group]):
                    taken[group] = part
                    for other in classes[group]:
                        left[other] -= 1
                        missing[other] -= 1
    return taken


def split_fold(scans: list[Scan], number: int, num: int) -> dict[str, list[Scan]]:
    """Returns {"train", "held_out", "test"} -> scans: held out is block `number` (from 1) of `num` blocks of neighbours, test is empty.

    Groups, or scans without one, in the order of their names, numbers in them by value. For slices of one stack, where neighbours are
    nearly alike and a random split would hold out what was trained on. FieldError where groups are too few.
    """
    groups = sorted({scan.group or scan.id for scan in scans}, key=_natural)
    if len(groups) < num:
        raise FieldError(f"config.data.fold={number}/{num}: {len(groups)} scans or groups cannot be cut into {num} blocks.")
    held = set(np.array_split(groups, num)[number - 1].tolist())
    parts = {"train": [], "held_out": [], "test": []}
    for scan in scans:
        parts["held_out" if (scan.group or scan.id) in held else "train"].append(scan)
    return parts


def _natural(name: str) -> list:
    return [(int(part), "") if part.isascii() and part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", name)]
