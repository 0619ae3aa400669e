"""From a config's data section to levelled, split, normalised scans: everything that happens before a crop is cut."""

import contextlib
import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from microscopy import fields, flaws, framing, levelling, misfits, normalisation, resampling
from microscopy.normalisation import ValueMap
from microscopy.scan import DataError, FieldError, Refused, Scan
from microscopy.sources import grouped
from microscopy.sources import load_scans as load_scans


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Levelled scans of one pixel size by split, the map to [-1, 1], the crop (height, width) in px of a scan, the refused files.

    `facts` holds, by scan id, what was read (file, channel, shape, nm_per_pixel, unit, grey or not, min, max and mean before levelling) and
    what was found and done: what reading cut off (note), constant bands, clipped values, levelling, resampling. `classes` are the names of
    the labelled scans' classes, sorted; label i is classes[i]. `size` (height, width) is a training image's, in px.
    """

    splits: Mapping[str, list[Scan]]
    value_map: ValueMap
    crop: tuple[int, int]
    refused: list[Refused]
    facts: Mapping[str, Mapping]
    classes: tuple[str, ...] = ()
    size: tuple[int, int] | None = None


class MasksMissing(FieldError):
    """`missing` of `total` scans have no mask, where all must have one; 0 where another error is made of this one by its text."""

    def __init__(self, text: str, missing: int = 0, total: int = 0):
        super().__init__(text)
        self.missing, self.total = missing, total


def class_names(scans: list[Scan]) -> tuple[str, ...]:
    """Returns the names of the classes, sorted, over the scans that have one."""
    return tuple(sorted({scan.label for scan in scans if scan.label is not None}))


def classes(prepared: Prepared) -> dict[str, int]:
    """Returns how many scans of all splits each class has; "(no class)", where some have one and others none, comes last."""
    labels = [scan.label for split in prepared.splits.values() for scan in split]
    counts = {name: labels.count(name) for name in prepared.classes}
    return counts | ({"(no class)": labels.count(None)} if counts and None in labels else {})


def prepare(config) -> Prepared:
    """Returns what `config.data` trains on: read, brought to its channels, levelled, split by scan, resampled, map fitted.

    Raises FieldError for a field that cannot be, DataError for files and sets of scans that cannot be trained on.
    """
    fields.check(config)
    data = config.data
    scans, refused = _of_one_kind(*load_scans(data), data)
    if data.group_by:
        scans = grouped(scans, data.group_by)
    if fields.needs_masks(data):
        _check_masks(scans, data)
    facts, done = {}, []
    for scan in scans:
        with _listing(refused, scan, data.skip_bad):
            level, record = levelled(scan, data)
            facts[scan.id] = _facts(level, record, data) | {"grey": scan.pixels.ndim == 2}
            done.append(level)
    _check_some(done, refused, data)
    normalisation.check_alike(done)
    splits, refused = _split(done, facts, refused, config)
    value_map = normalisation.fit(splits["train"], fields.range_of(data))  # before anything is padded, which was not measured
    longer = data.crop or max(data.height, data.width)
    splits = {name: [framed(scan, facts[scan.id], data, longer) for scan in part] for name, part in splits.items()}
    scans = [scan for part in splits.values() for scan in part]
    crop = crop_size(scans, data)
    scale = scans[0].nm_per_pixel
    if scale:
        value_map = dataclasses.replace(value_map, nm_per_pixel=(scale[0] * crop[0] / data.height, scale[1] * crop[1] / data.width))
    for scan in scans:
        facts[scan.id]["largest_crop"] = _largest_crop(scan, data)
    facts = {id: found for id, found in facts.items() if "largest_crop" in found}
    return Prepared(splits, value_map, crop, refused, facts, class_names(scans), (data.height, data.width))


def framed(scan: Scan, facts: dict, data, longer: int) -> Scan:
    """Returns the scan on the canvas, where one is set, and padded to hold a crop of `longer` px along its longer side, where it may be.

    What was cut and added is written to `facts`. DataError, naming the scan, where it is smaller than the canvas and nothing pads it.
    """
    canvas, pad = fields.option(data, "canvas"), fields.option(data, "pad")
    if canvas:
        scan, facts["canvas"] = framing.framed(scan, framing.canvas_size(scan, canvas, pad), pad, cut=True)
    if pad:
        size = framing.least_size(_crop_of(longer, data), data.rotation)
        scan, facts["padding"] = framing.framed(scan, size, pad, cut=False)
    return scan


@contextlib.contextmanager
def _listing(refused: list[Refused], scan: Scan, skip_bad: bool):
    """Within it a DataError of the scan is listed among the refused, with `skip_bad`; a wrong field is told in any case."""
    try:
        yield
    except DataError as error:
        if not skip_bad or isinstance(error, FieldError):
            raise
        name = scan.file or scan.id
        refused.append(Refused(name, str(error).removeprefix(f"{name}: ")))


def _check_some(scans: list[Scan], refused: list[Refused], data) -> None:
    if not scans:
        first = f"; the first: {refused[0].file}: {refused[0].reason}" if refused else ""
        raise DataError(f"config.data.source={data.source}: no scan is left to train on ({len(refused)} refused){first}.")


def _of_one_kind(scans: list[Scan], refused: list[Refused], data) -> tuple[list[Scan], list[Refused]]:
    """The few scans of another kind are refused; a set that is no more one than the other is an error."""
    _check_some(scans, refused, data)
    scans, refused = _without(misfits.of_other_kinds(scans), scans, refused)
    lost = resampling.without_scale(scans)
    if lost:
        other = next(scan for scan in scans if scan.nm_per_pixel)
        raise DataError(
            f"{lost[0].file or lost[0].id}: states no nm per pixel, {other.file or other.id} does ({len(lost)} of {len(scans)} scans "
            "do not).\nTrain on one kind: choose files by --config.data.select=FILE, or give --config.data.nm_per_pixel for all."
        )
    if data.resample_nm and not any(scan.nm_per_pixel for scan in scans):
        raise FieldError(f"config.data.resample_nm={data.resample_nm}: no scan states its nm per pixel; give config.data.nm_per_pixel too.")
    return scans, refused


def _split(scans: list[Scan], facts: dict[str, dict], refused: list[Refused], config) -> tuple[dict[str, list[Scan]], list[Refused]]:
    """(splits at the scale of the training scans, refused): split anew, and measured anew, until none has to be left out."""
    data = config.data
    while True:
        splits = divided(scans, config)
        scaled, refused = _on_one_scale(scans, splits, facts, refused, data)
        _check_some(scaled, refused, data)
        if len(scaled) == len(scans):
            return divided(scaled, config), refused
        kept = {scan.id for scan in scaled}
        scans = [scan for scan in scans if scan.id in kept]


def divided(scans: list[Scan], config) -> dict[str, list[Scan]]:
    """Returns {"train", "held_out", "test"} -> scans, by `config.data.fold` where one is set, else by the shares; their FieldErrors.

    Groups are those the scans have: `sources.grouped` first, where `config.data.group_by` is set.
    """
    data = config.data
    if data.fold:
        return normalisation.split_fold(scans, *fields.fold_of(data.fold))
    return normalisation.split(scans, config.seed, data.held_out, data.test)


def _without(reasons: Mapping[str, str], scans: list[Scan], refused: list[Refused]) -> tuple[list[Scan], list[Refused]]:
    left_out = [Refused(scan.file or scan.id, reasons[scan.id], misfit=True) for scan in scans if scan.id in reasons]
    return [scan for scan in scans if scan.id not in reasons], [*refused, *left_out]


def _on_one_scale(scans: list[Scan], splits: dict[str, list[Scan]], facts: dict[str, dict], refused: list[Refused], data):
    """(scans at the training scans' scale, refused): the few that cannot be brought to it or are too small for a crop are left out."""
    nm = data.resample_nm or resampling.common_scale(splits["train"])
    if nm is not None:
        reasons = misfits.of_other_scales([scan for part in splits.values() for scan in part], nm, data.max_pixels)
        scans, refused = _without(reasons, scans, refused)
        scans = [_rescaled(scan, facts[scan.id], nm, data.max_pixels) for scan in scans]
    if not data.crop and not fields.option(data, "pad"):
        scans, refused = _without(misfits.too_small(scans, max(data.height, data.width), data.rotation == "free"), scans, refused)
    return scans, refused


def _rescaled(scan: Scan, facts: dict, nm: float, max_pixels: int) -> Scan:
    factor = resampling.factors(scan, nm, max_pixels)
    done = resampling.resampled(scan, nm, factor)
    facts["resampling"] = {"nm_per_pixel": nm, "factor": list(factor), "shape": list(done.pixels.shape[:2])}
    return done


def _check_masks(scans: list[Scan], data) -> None:
    missing = [scan.file or scan.id for scan in scans if scan.mask is None]
    if missing:
        field = "use_masks=True" if data.use_masks else f"label_field={data.label_field}"
        raise MasksMissing(
            f"config.data.{field}: {len(missing)} of {len(scans)} scans have no mask, the first is {missing[0]}.\n"
            "Name their folder or COCO file by --config.data.masks=PLACE, or leave these scans out by --config.data.select=FILE.",
            *(len(missing), len(scans)),
        )


def levelled(scan: Scan, data) -> tuple[Scan, dict]:
    """Returns the scan in `data.channels` channels, levelled by `data.levelling`, and the record of that; DataError where it cannot be."""
    name = scan.file or scan.id
    method = levelling.auto(scan.unit) if data.levelling == "auto" else data.levelling
    # The planes of a stack are where an image has its channels.
    pixels = scan.pixels if fields.num_planes(data) else flaws.to_channels(scan.pixels, name, data.channels)
    record = {"method": method}
    if method != "none":  # photographs keep their stored type
        try:
            pixels, record = levelling.level(pixels, method)
        except DataError as error:
            raise type(error)(f"{name}: {error}") from None
    return dataclasses.replace(scan, pixels=pixels), record


def _facts(scan: Scan, record: Mapping, data) -> dict:
    pixels, bands = scan.pixels, flaws.constant_bands(scan.pixels)
    return {
        "file": scan.file,
        "channel": scan.channel,
        "shape": list(pixels.shape),
        "dtype": str(pixels.dtype),
        "nm_per_pixel": list(scan.nm_per_pixel) if scan.nm_per_pixel else None,
        "unit": scan.unit,
        "note": scan.note,
        "min": float(pixels.min()),
        "max": float(pixels.max()),
        "mean": float(pixels.mean(dtype=np.float64)),
        "margins": list(data.margins),
        "constant_bands": list(bands),
        "clipped": [list(end) for end in flaws.clipped(pixels, bands)],
        "levelling": dict(record),
        "resampling": None,
        "canvas": None,
        "padding": None,
    }


def crop_size(scans: list[Scan], data) -> tuple[int, int]:
    """Returns the crop (height, width) in px: `config.data.crop` along the longer side, in the shape of height x width.

    0 chooses min(256, short side), the short side of the smallest scan divided by sqrt 2 where rotation is free, so that
    every turn fits without empty corners; rounded down to exactly that shape. Scans too small are named: by a FieldError
    where the field was set, else by a DataError.
    """
    longer = data.crop or min(256, *(_largest_crop(scan, data) for scan in scans))
    unit = max(data.height, data.width) // math.gcd(data.height, data.width)
    if not data.crop and longer > unit:
        longer -= longer % unit
    crop = _crop_of(longer, data)
    small = [scan for scan in scans if not _fits(scan.pixels.shape, crop, data.rotation)]
    if small or min(crop) < 1:
        named = ", ".join(f"{scan.file or scan.id} ({size_text(scan)})" for scan in small[:3])
        height, width = framing.least_size(crop, data.rotation)
        needed = f"; at every angle that needs {width} x {height} px" if data.rotation == "free" else ""
        raise (FieldError if data.crop else DataError)(
            f"config.data.crop={data.crop}: with rotation {data.rotation} {len(small)} of {len(scans)} scans are too small for "
            f"{crop[1]} x {crop[0]} px: {named}{' ...' if len(small) > 3 else ''}{needed}.\n"
            "Use a smaller crop, pad them by --config.data.pad=border, or leave them out."
        )
    return crop


def _crop_of(longer: int, data) -> tuple[int, int]:
    ratio = longer / max(data.height, data.width)
    return round(data.height * ratio), round(data.width * ratio)


def size_text(scan: Scan) -> str:
    """Returns "512 x 256 px" (width first), with ", 128 x 64 nm" where the scan states its scale."""
    height, width = scan.pixels.shape[:2]
    return f"{width} x {height} px" + (f", {area_text((height, width), scan.nm_per_pixel)}" if scan.nm_per_pixel else "")


def area_text(size: tuple[int, int], nm_per_pixel: tuple[float, float]) -> str:
    """Returns "128 x 64 nm" (width first) for (height, width) in px and nm per pixel (y, x)."""
    sides = (float(f"{side * nm:.4g}") for side, nm in zip(size[::-1], nm_per_pixel[::-1], strict=True))
    return " x ".join(f"{side:.10g}" for side in sides) + " nm"


def _largest_crop(scan: Scan, data) -> int:
    return int(min(scan.pixels.shape[:2]) / (math.sqrt(2.0) if data.rotation == "free" else 1.0))


def _fits(shape: tuple[int, ...], crop: tuple[int, int], rotation: str) -> bool:
    if rotation == "none":
        return shape[0] >= crop[0] and shape[1] >= crop[1]
    return min(shape[:2]) >= (math.hypot(*crop) if rotation == "free" else max(crop)) - 1e-6
