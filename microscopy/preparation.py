"""From a config's data section to levelled, split, normalised scans: everything that happens before a crop is cut."""

import dataclasses
import math
import re
from collections.abc import Mapping

import cv2
import numpy as np

from microscopy import datasets, fields, folder, levelling, normalisation, simulator
from microscopy.normalisation import ValueMap
from microscopy.scan import DataError, FieldError, Refused, Scan


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Levelled scans by split, the map to [-1, 1], the crop (height, width) in px of a scan, and the refused files.

    `facts` holds, by scan id, what was read and done: file, channel, shape, nm_per_pixel, unit, min, max and mean as
    stored, and the levelling's record. `classes` are the names of the labelled scans' classes, sorted; label i is classes[i].
    """

    splits: Mapping[str, list[Scan]]
    value_map: ValueMap
    crop: tuple[int, int]
    refused: list[Refused]
    facts: Mapping[str, Mapping]
    classes: tuple[str, ...] = ()


def class_names(scans: list[Scan]) -> tuple[str, ...]:
    """Returns the names of the classes, sorted, over the scans that have one."""
    return tuple(sorted({scan.label for scan in scans if scan.label is not None}))


def classes(prepared: Prepared) -> dict[str, int]:
    """Returns how many scans of all splits each class has; "(no class)", where some have one and others none, comes last."""
    labels = [scan.label for split in prepared.splits.values() for scan in split]
    counts = {name: labels.count(name) for name in prepared.classes}
    return counts | ({"(no class)": labels.count(None)} if counts and None in labels else {})


def load_scans(data) -> tuple[list[Scan], list[Refused]]:
    """Returns the scans that `config.data` names and the files it refused; DataError naming what cannot be read."""
    kind, _, place = data.source.partition(":")
    nm = data.nm_per_pixel or None
    if kind == "simulated":
        return simulator.simulated_scans(simulator.SimulatorSettings(), num_scans=data.num_simulated, seed=data.simulator_seed), []
    if kind == "folder":
        return folder.read_folder(
            place,
            max_pixels=data.max_pixels,
            margins=tuple(data.margins),
            nm_per_pixel=nm,
            skip_bad=data.skip_bad,
            masks=(data.masks or None) if data.use_masks else "",
            select=data.select or None,
            channel=data.channel,
        )
    return datasets.read_tfds(
        place, data_dir=data.tfds_dir or None, max_pixels=data.max_pixels, nm_per_pixel=nm, masks=data.use_masks, skip_bad=data.skip_bad
    )


def prepare(config) -> Prepared:
    """Returns what `config.data` trains on: read, brought to its channels, levelled, split by scan, map fitted.

    Raises FieldError for a field that cannot be, DataError for files and sets of scans that cannot be trained on.
    """
    fields.check(config)
    data = config.data
    scans, refused = load_scans(data)
    if not scans:
        raise DataError(f"config.data.source={data.source}: no scan is left to train on ({len(refused)} refused).")
    if data.group_by:
        scans = grouped(scans, data.group_by)
    if data.use_masks:
        _check_masks(scans)
    facts, levelled = {}, []
    for scan in scans:
        pixels, record = _levelled(scan, data)
        facts[scan.id] = _facts(scan, record)
        levelled.append(dataclasses.replace(scan, pixels=pixels))
    crop = crop_size(levelled, data)
    splits = normalisation.split(levelled, config.seed, data.held_out, data.test)
    value_map = normalisation.fit(splits["train"])
    scale = levelled[0].nm_per_pixel
    if scale:
        value_map = dataclasses.replace(value_map, nm_per_pixel=(scale[0] * crop[0] / data.height, scale[1] * crop[1] / data.width))
    return Prepared(splits, value_map, crop, refused, facts, class_names(levelled))


def grouped(scans: list[Scan], pattern: str) -> list[Scan]:
    """Returns the scans, each with the group (patient, sample) that the one bracket of the regular expression finds in its id.

    Raises FieldError with the first id in which the pattern is not found.
    """
    found = {scan.id: re.search(pattern, scan.id) for scan in scans}
    lost = [id for id, match in found.items() if match is None or match[1] is None]
    if lost:
        raise FieldError(f"config.data.group_by={pattern!r}: {len(lost)} of {len(scans)} scans have no such part, the first is {lost[0]}.")
    return [dataclasses.replace(scan, group=found[scan.id][1]) for scan in scans]


def _check_masks(scans: list[Scan]) -> None:
    missing = [scan.file or scan.id for scan in scans if scan.mask is None]
    if missing:
        raise FieldError(
            f"config.data.use_masks=True: {len(missing)} of {len(scans)} scans have no mask, the first is {missing[0]}.\n"
            "Name their folder by --config.data.masks=DIR, or leave these scans out by --config.data.select=FILE."
        )


def _levelled(scan: Scan, data) -> tuple[np.ndarray, dict]:
    method = data.levelling if data.levelling != "auto" else "plane+backgrounds" if scan.unit == "nm" else "none"
    pixels = _to_channels(scan, data.channels)
    if method == "none":  # photographs keep their stored type
        return pixels, {"method": method}
    try:
        return levelling.level(pixels, method)
    except DataError as error:
        raise DataError(f"{scan.file or scan.id}: {error}") from None


def _facts(scan: Scan, record: Mapping) -> dict:
    low, high, mean = (float(f(scan.pixels)) for f in (np.min, np.max, np.mean))
    return {
        "file": scan.file,
        "channel": scan.channel,
        "shape": list(scan.pixels.shape),
        "dtype": str(scan.pixels.dtype),
        "nm_per_pixel": list(scan.nm_per_pixel) if scan.nm_per_pixel else None,
        "unit": scan.unit,
        "note": scan.note,
        "min": low,
        "max": high,
        "mean": mean,
        "levelling": dict(record),
    }


def _to_channels(scan: Scan, channels: int) -> np.ndarray:
    """Colour to one channel by the luma of Rec. 601 in the stored dtype; one channel to colour by repetition."""
    have = 1 if scan.pixels.ndim == 2 else scan.pixels.shape[2]
    if have == channels:
        return scan.pixels
    if channels == 1 and have == 3:
        return cv2.cvtColor(scan.pixels, cv2.COLOR_RGB2GRAY)
    if channels == 3 and have == 1:
        return np.repeat(scan.pixels.reshape(*scan.pixels.shape[:2], 1), 3, axis=2)
    raise DataError(f"{scan.file or scan.id}: {have} channels; config.data.channels={channels} can be 1 or 3.")


def crop_size(scans: list[Scan], data) -> tuple[int, int]:
    """Returns the crop (height, width) in px: `config.data.crop` along the longer side, in the shape of height x width.

    0 chooses min(256, short side), the short side of the smallest scan divided by sqrt 2 where rotation is free, so that
    every turn fits without empty corners; rounded down to exactly that shape. Scans too small are named: by a FieldError
    where the field was set, else by a DataError.
    """
    room = math.sqrt(2.0) if data.rotation == "free" else 1.0
    longer = data.crop or min(256, *(int(min(scan.pixels.shape[:2]) / room) for scan in scans))
    unit = max(data.height, data.width) // math.gcd(data.height, data.width)
    if not data.crop and longer > unit:
        longer -= longer % unit
    ratio = longer / max(data.height, data.width)
    crop = (round(data.height * ratio), round(data.width * ratio))
    small = [scan for scan in scans if not _fits(scan.pixels.shape, crop, data.rotation)]
    if small or min(crop) < 1:
        named = ", ".join(f"{scan.file or scan.id} ({scan.pixels.shape[1]}x{scan.pixels.shape[0]})" for scan in small[:3])
        raise (FieldError if data.crop else DataError)(
            f"config.data.crop={data.crop}: with rotation {data.rotation} {len(small)} of {len(scans)} scans are too small for "
            f"{crop[1]}x{crop[0]} px: {named}{' ...' if len(small) > 3 else ''}.\nUse a smaller crop or leave the scans out."
        )
    return crop


def _fits(shape: tuple[int, ...], crop: tuple[int, int], rotation: str) -> bool:
    if rotation == "none":
        return shape[0] >= crop[0] and shape[1] >= crop[1]
    return min(shape[:2]) >= (math.hypot(*crop) if rotation == "free" else max(crop)) - 1e-6
