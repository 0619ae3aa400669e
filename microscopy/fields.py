"""What each field of a config's data section may be: checked once, before any file is opened."""

import math
import re

import numpy as np

from microscopy import framing, levelling, levels
from microscopy.scan import FieldError

ROTATIONS = ("free", "quarter", "none")
SOURCES = "simulated, emulsion, cells, folder:PATH or tfds:NAME"
LABEL_FIELDS = ("none", "distance", "mask")
BUILT_IN = ("simulated", "emulsion", "cells")
MAX_PLANES = 256

_AT_LEAST = {"height": 1, "width": 1, "crop": 0, "num_simulated": 1, "max_pixels": 1, "window": 0, "window_steps": 1, "simulator_seed": 0}
_FLAGS = ("mirror", "use_masks", "skip_bad")
_TEXTS = ("source", "tfds_dir", "masks", "select", "channel", "fold", "group_by", "rotation", "levelling")
_SHARES = ("held_out", "test")
_WEIGHTS = ("boundary_weight", "boundary_sigma")
_OTHERS = ("channels", "margins", "nm_per_pixel", "resample_nm")
_FOLDER_ONLY = ("margins", "select", "masks", "channel", "labels", "levels")
OPTIONS = {
    "labels": "",
    "levels": "",
    "classes": "",
    "pad": "",
    "canvas": 0,
    "names": False,
    "only_masked": False,
    "value_range": "",
    "label_field": "none",
    "label_reach": 24.0,
    "label_weight": 1.0,
}
"""Fields that configs of earlier runs do not have, and what they then are."""


def option(data, name: str):
    """Returns the field `name` of a config's data section, or what it is where the config was written before there was one."""
    return data.get(name, OPTIONS[name])


def check(config) -> None:
    """Raises FieldError, naming the field, its value and what it may be, unless `config.data` and `config.seed` can be.

    Says nothing of the scans: a field that no scan fits is told when they have been read.
    """
    data = config.data
    for name in (*_AT_LEAST, *_FLAGS, *_TEXTS, *_SHARES, *_WEIGHTS, *_OTHERS):
        if name not in data:
            raise FieldError(f"config.data.{name} is missing: the config was written for another version; begin from configs/.")
    for name, least in _AT_LEAST.items():
        _must(_is_whole(data[name]) and data[name] >= least, name, data[name], f"a whole number, {least} or more")
    for name in _FLAGS:
        _must(isinstance(data[name], bool | np.bool_), name, data[name], "true or false")
    for name in _TEXTS:
        _must(isinstance(data[name], str), name, data[name], "a text")
    for name in _SHARES:
        _must(_is_number(data[name]) and 0.0 <= data[name] < 1.0, name, data[name], "a share, 0 up to below 1")
    for name in _WEIGHTS:
        _must(_is_number(data[name]) and 0.0 <= data[name] <= 1e4, name, data[name], "0 to 10000")
    _must(data.use_masks or not data.boundary_weight, "boundary_weight", data.boundary_weight, "needs config.data.use_masks=true")
    _must(data.boundary_sigma > 0 or not data.boundary_weight, "boundary_sigma", data.boundary_sigma, "above 0")
    _must(_is_whole(data.channels) and data.channels in (1, 3), "channels", data.channels, "1 or 3")
    _must(data.rotation in ROTATIONS, "rotation", data.rotation, f"choose {_or(ROTATIONS)}")
    balanced = data.get("class_balanced", False)
    _must(isinstance(balanced, bool | np.bool_), "class_balanced", balanced, "true or false")
    _check_levelling(data.levelling)
    calls = config.train.steps_per_call
    text = f"no multiple of config.train.steps_per_call={calls}"
    _must(not data.window or data.window_steps % max(1, calls) == 0, "window_steps", data.window_steps, text)
    _check_margins(data.margins)
    _check_scale(data.nm_per_pixel)
    resample_nm = data.resample_nm
    _must(_is_number(resample_nm) and resample_nm >= 0, "resample_nm", resample_nm, "a positive number of nm, or 0 for the scans' median")
    if data.group_by:
        _check_pattern(data.group_by)
    if data.fold:
        fold_of(data.fold)
    _check_source(data)
    _check_planes(data)
    _check_label_field(data)
    _check_options(data)
    for name, seed in (("config.seed", config.seed), ("config.data.simulator_seed", data.simulator_seed)):
        if not _is_whole(seed) or not 0 <= seed < 2**32:
            raise FieldError(f"{name}={seed}: 0 to 4294967295.")


def _must(sound: bool, name: str, value, what: str) -> None:
    if not sound:
        raise FieldError(f"config.data.{name}={value!r}: {what}.")


def _is_whole(value) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_number(value) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool) and math.isfinite(value)


def _or(words) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _check_levelling(method: str) -> None:
    if method != "auto":
        try:
            levelling.parse(method)
        except FieldError as error:
            raise FieldError(f"config.data.levelling={method!r}: {error}") from None


def _check_margins(margins) -> None:
    sound = isinstance(margins, tuple | list) and len(margins) == 4 and all(_is_whole(value) and value >= 0 for value in margins)
    _must(sound, "margins", margins, 'four whole numbers of pixels from 0 on, "(top, right, bottom, left)"')


def _check_scale(scale) -> None:
    values = tuple(scale) if isinstance(scale, tuple | list) else (scale,)
    sound = len(values) in (1, 2) and all(_is_number(value) and value >= 0 for value in values) and (len(values) == 1 or all(values))
    _must(sound, "nm_per_pixel", scale, "a positive number of nm, a pair (y, x), or 0 for what the files say")


def fold_of(text: str) -> tuple[int, int]:
    """Returns (number from 1 on, how many) of `config.data.fold`; FieldError unless it reads like "2/4"."""
    match = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
    _must(match is not None, "fold", text, 'write "2/4" for the second of four')
    number, num = int(match[1]), int(match[2])
    _must(num >= 2 and 1 <= number <= num, "fold", text, f"1/{max(num, 2)} to {max(num, 2)}/{max(num, 2)}, of two at least")
    return number, num


def num_planes(data) -> int:
    """Returns how many planes the stacks of a config's data section have; 0 where it is of images (`planes` 0, 1 or no field of it)."""
    planes = data.get("planes", 0)
    return planes if planes > 1 else 0


def label_kind(data) -> str:
    """Returns which label field a config's data section adds as last channel of its images: "distance", "mask" or "none"."""
    return option(data, "label_field")


def num_channels(data) -> int:
    """Returns how many channels a batch's images have: those of the scans and, where one is asked for, the label field."""
    return data.channels + (label_kind(data) != "none")


def needs_masks(data) -> bool:
    """Returns whether every scan must have a mask."""
    return data.use_masks or label_kind(data) != "none"


def _check_label_field(data) -> None:
    kind, reach = label_kind(data), option(data, "label_reach")
    _must(kind in LABEL_FIELDS, "label_field", kind, f"choose {_or(LABEL_FIELDS)}")
    _must(_is_number(reach) and 0 < reach <= 1e4, "label_reach", reach, "px of a scan, above 0")
    weight = option(data, "label_weight")
    _must(_is_number(weight) and 0 < weight <= 1e4, "label_weight", weight, "above 0; 0.3 is usual, 1 the image's own")


def _check_planes(data) -> None:
    """What is for images is refused for stacks by the name of its field."""
    planes = data.get("planes", 0)
    _must(_is_whole(planes) and 0 <= planes <= MAX_PLANES, "planes", planes, f"0 (images) to {MAX_PLANES} planes of a stack")
    if not num_planes(data):
        return
    spacing = data.get("plane_nm", 0.0)
    _must(_is_number(spacing) and spacing >= 0, "plane_nm", spacing, "nm from plane to plane, or 0 where it is not known")
    known = data.source == "emulsion" or data.source.startswith("folder:")
    _must(known, "source", data.source, f"stacks come from emulsion or folder:PATH, TIFF files of {planes} pages")
    _must(data.channels == 1, "channels", data.channels, "1 for stacks")
    _must(data.levelling in ("auto", "none"), "levelling", data.levelling, "none for stacks")
    _must(label_kind(data) == "none", "label_field", label_kind(data), "none for stacks")
    for name in ("select", "channel", "margins", "boundary_weight", "labels", "levels"):
        value = data.get(name)
        if any(value) if name == "margins" else value:
            raise FieldError(f"config.data.{name}={value!r}: is not for stacks (config.data.planes={planes}); leave it out.")


def _check_options(data) -> None:
    for name in ("labels", "levels", "classes", "pad", "value_range"):
        _must(isinstance(option(data, name), str), name, option(data, name), "a text")
    canvas, pad = option(data, "canvas"), option(data, "pad")
    _must(_is_whole(canvas) and 0 <= canvas <= 65536, "canvas", canvas, "a whole number of px, or 0 to keep the scans' sizes")
    for name in ("names", "only_masked"):
        _must(isinstance(option(data, name), bool | np.bool_), name, option(data, name), "true or false")
    _must(pad in ("", "border") or framing.constant(pad) is not None, "pad", pad, 'border, or one value such as "255"; empty: not at all')
    levels.parse(option(data, "levels"))
    range_of(data)


def range_of(data) -> tuple[float, float] | None:
    """Returns (low, high) of `config.data.value_range`, None where it is empty; FieldError unless it reads like "0,255"."""
    text = option(data, "value_range")
    if not text:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = math.nan, math.nan
    _must(-math.inf < low < high < math.inf, "value_range", text, 'write "0,255", the lower value first')
    return low, high


def _check_pattern(pattern: str) -> None:
    try:
        num_groups = re.compile(pattern).groups
    except re.error as error:
        raise FieldError(f"config.data.group_by={pattern!r}: no regular expression ({error}).") from None
    _must(num_groups == 1, "group_by", pattern, f"has {num_groups} groups in brackets; write one, such as '^(patient[0-9]+)_'")


def _check_source(data) -> None:
    """A field that the source would not look at is refused: it was set because something else was expected of it."""
    kind, _, place = data.source.partition(":")
    known = kind in BUILT_IN and ":" not in data.source or kind in ("folder", "tfds") and place
    _must(bool(known), "source", data.source, f"write {SOURCES}")
    ignored = {"folder": (), "tfds": _FOLDER_ONLY}.get(kind, (*_FOLDER_ONLY, "nm_per_pixel"))
    for name in ignored:
        value = data.get(name)
        if any(value) if name == "margins" else value:
            raise FieldError(f"config.data.{name}={value!r}: has no effect with source {data.source}; leave it out.")
