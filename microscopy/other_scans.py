"""Scans of another folder in the place of the held-out ones, prepared as the run's were."""

import dataclasses

from microscopy import fields, levels
from microscopy.preparation import Prepared, prepare
from microscopy.scan import DataError


def with_held_out(config, prepared: Prepared, place: str, nm_per_pixel: float = 0.0) -> Prepared:
    """Returns `prepared` with the scans of the folder `place` instead of the held-out ones: levelled, scaled and mapped as those were.

    `nm_per_pixel` is that of files which state none; 0: there is none to give. The folders of `place` are of the run's levels where its
    images lie that deep, else of classes.

    Raises DataError where they are of another unit or stored type than the run's scans, or too small for its crop, and as `prepare`.
    """
    other = config.copy_and_resolve_references()
    longer, map_nm = max(prepared.crop), prepared.value_map.nm_per_pixel
    with other.unlocked():
        other.data.update(
            {"source": f"folder:{place}", "select": "", "masks": "", "group_by": "", "fold": "", "held_out": 0.0, "test": 0.0}
            | {"labels": "", "levels": levels.fitting(place, fields.option(config.data, "levels")), "classes": "", "only_masked": False}
        )
        other.data.crop = longer
        other.data.nm_per_pixel = nm_per_pixel or config.data.nm_per_pixel
        other.data.resample_nm = map_nm[1] * config.data.width / prepared.crop[1] if map_nm else 0.0
    try:
        found = prepare(other)
    except DataError as error:
        raise _told(error, place, other.data) from None
    if found.value_map.unit != prepared.value_map.unit or (found.value_map.nm_per_pixel is None) != (map_nm is None):
        units = [f"{one.unit}{'' if one.nm_per_pixel else ' without nm per pixel'}" for one in (found.value_map, prepared.value_map)]
        raise DataError(f"{place}: the scans hold {units[0]}, those of the run {units[1]}; they cannot be compared.")
    stored, wanted = found.value_map.dtype, prepared.value_map.dtype
    if wanted and stored != wanted:
        raise DataError(f"{place}: the scans store {stored}, the run was trained on {wanted}; store them as its scans were.")
    splits = {**prepared.splits, "held_out": found.splits["train"]}
    return dataclasses.replace(prepared, splits=splits, refused=found.refused)


_SMALL = "Pad them, give larger ones, or leave them out; a run trained with --config.data.pad=border pads them itself."
_REMEDIES = {
    "no mask": "Put them into its folder masks: the run draws labels, which are scored by them.",
    "too small": _SMALL,
    "smaller than config.data.canvas": _SMALL,
    "no scan states its nm": "Give --nm_per_pixel.",
}


def _told(error: DataError, place: str, data) -> DataError:
    """The error in the words of --input, where the remedy is another one than for a training."""
    text = str(error).splitlines()[0]
    remedy = next((remedy for words, remedy in _REMEDIES.items() if words in text), None)
    if remedy is None:
        return error
    for field in ("resample_nm", "crop"):
        text = text.removeprefix(f"config.data.{field}={data[field]}: ")
    return DataError(f"--input={place}: {text.partition('; give config')[0].partition('; pad it')[0].rstrip('.')}.\n{remedy}")
