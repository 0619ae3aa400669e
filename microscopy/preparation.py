"""From a config's data section to levelled, split, normalised scans: everything that happens before a crop is cut."""

import dataclasses
import math
from collections.abc import Mapping

import cv2
import numpy as np

from microscopy import datasets, folder, levelling, normalisation, simulator
from microscopy.normalisation import ValueMap
from microscopy.scan import DataError, FieldError, Refused, Scan

ROTATIONS = ("free", "quarter", "none")


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Levelled scans by split, the map to [-1, 1], the crop (height, width) in px of a scan, and the refused files.

    `facts` holds, by scan id, what was read and done: file, channel, shape, nm_per_pixel, unit, min, max and mean as
    stored, and the levelling's record.
    """

    splits: Mapping[str, list[Scan]]
    value_map: ValueMap
    crop: tuple[int, int]
    refused: list[Refused]
    facts: Mapping[str, Mapping]


def load_scans(data) -> tuple[list[Scan], list[Refused]]:
    """Returns the scans that `config.data` names and the files it refused; DataError naming what cannot be read."""
    kind, _, place = data.source.partition(":")
    nm = data.nm_per_pixel or None
    if kind == "simulated" and not place:
        return simulator.simulated_scans(simulator.SimulatorSettings(), num_scans=data.num_simulated, seed=data.simulator_seed), []
    if kind == "folder" and place:
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
    if kind == "tfds" and place:
        return datasets.read_tfds(place, data_dir=data.tfds_dir or None, max_pixels=data.max_pixels)
    raise FieldError(f"config.data.source={data.source!r}: write simulated, folder:PATH or tfds:NAME.")


def prepare(config) -> Prepared:
    """Returns what `config.data` trains on: read, brought to its channels, levelled, split by scan, map fitted."""
    data = config.data
    if data.rotation not in ROTATIONS:
        raise FieldError(f"config.data.rotation={data.rotation!r}: choose free, quarter or none.")
    for name in ("held_out", "test"):
        if not 0.0 <= data[name] < 1.0:
            raise FieldError(f"config.data.{name}={data[name]}: a share, 0 up to below 1.")
    if data.channels not in (1, 3):
        raise FieldError(f"config.data.channels={data.channels}: 1 or 3.")
    for name, seed in (("config.seed", config.seed), ("config.data.simulator_seed", data.simulator_seed)):
        if not 0 <= seed < 2**32:
            raise FieldError(f"{name}={seed}: 0 to 4294967295.")
    scans, refused = load_scans(data)
    if not scans:
        raise DataError(f"config.data.source={data.source}: no scan is left to train on ({len(refused)} refused).")
    facts, levelled = {}, []
    for scan in scans:
        method = data.levelling if data.levelling != "auto" else "plane+backgrounds" if scan.unit == "nm" else "none"
        pixels, record = _to_channels(scan, data.channels), {"method": method}
        if method != "none":  # photographs keep their stored type
            pixels, record = levelling.level(pixels, method)
        facts[scan.id] = _facts(scan, record)
        levelled.append(dataclasses.replace(scan, pixels=pixels))
    crop = crop_size(levelled, data)
    splits = normalisation.split(levelled, config.seed, data.held_out, data.test)
    value_map = normalisation.fit(splits["train"])
    scale = levelled[0].nm_per_pixel
    if scale:
        value_map = dataclasses.replace(value_map, nm_per_pixel=(scale[0] * crop[0] / data.height, scale[1] * crop[1] / data.width))
    return Prepared(splits, value_map, crop, refused, facts)


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
    every turn fits without empty corners. DataError names the scans that are too small for a given crop.
    """
    room = math.sqrt(2.0) if data.rotation == "free" else 1.0
    longer = data.crop or min(256, *(int(min(scan.pixels.shape[:2]) / room) for scan in scans))
    ratio = longer / max(data.height, data.width)
    crop = (round(data.height * ratio), round(data.width * ratio))
    need = {"free": math.hypot(*crop), "quarter": max(crop)}.get(data.rotation)
    small = [
        f"{scan.file or scan.id} ({scan.pixels.shape[1]}x{scan.pixels.shape[0]})"
        for scan in scans
        if (min(scan.pixels.shape[:2]) < need - 1e-6 if need else scan.pixels.shape[0] < crop[0] or scan.pixels.shape[1] < crop[1])
    ]
    if small or min(crop) < 1:
        raise DataError(
            f"config.data.crop={data.crop}: with rotation {data.rotation} {len(small)} of {len(scans)} scans are too small for "
            f"{crop[1]}x{crop[0]} px: {', '.join(small[:3])}{' ...' if len(small) > 3 else ''}.\nUse a smaller crop or leave the scans out."
        )
    return crop
