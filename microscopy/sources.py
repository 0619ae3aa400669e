"""The scans that a config's data section names, with class and group, as they are stored."""

import dataclasses
import re
from collections.abc import Callable

from microscopy import cells, datasets, emulsion, fields, folder, label_table, levels, simulator, stacks
from microscopy.scan import FieldError, Refused, Scan

NO_MASK = "has no mask, and only scans with masks are trained on"
"""Why `only_masked` refuses a scan."""


def load_scans(data, kept: Callable[[Scan], Scan] = lambda scan: scan) -> tuple[list[Scan], list[Refused]]:
    """Returns the scans that `config.data` names and the files it refused; DataError naming what cannot be read.

    With `labels` their classes and groups are the table's; with `classes` they are those of these classes only, with `only_masked` those
    that have masks. `kept(scan)` is what is held of each scan, of a folder's as soon as it is read.
    """
    scans, refused = _read(data, kept)
    if fields.option(data, "labels"):
        _, files = levels.listed(data.source.partition(":")[2], levels.parse(fields.option(data, "levels")))
        scans = label_table.labelled(scans, data.labels, files)
    if fields.option(data, "classes"):
        scans = label_table.of_classes(scans, data.classes)
    if fields.option(data, "only_masked"):
        refused = [*refused, *(Refused(scan.file or scan.id, NO_MASK, misfit=True) for scan in scans if scan.mask is None)]
        scans = [scan for scan in scans if scan.mask is not None]
    return scans, refused


def _read(data, kept: Callable[[Scan], Scan]) -> tuple[list[Scan], list[Refused]]:
    kind, _, place = data.source.partition(":")
    nm, masks = data.nm_per_pixel or None, fields.needs_masks(data) or fields.option(data, "only_masked")
    if fields.num_planes(data):
        return stacks.load_stacks(data, kept)
    if kind in fields.BUILT_IN:
        return [kept(scan) for scan in _simulated(kind, data)], []
    if kind == "folder":
        return folder.read_folder(
            place,
            max_pixels=data.max_pixels,
            margins=tuple(data.margins),
            nm_per_pixel=nm,
            skip_bad=data.skip_bad,
            masks=(data.masks or None) if masks else "",
            select=data.select or None,
            channel=data.channel,
            levels=levels.parse(fields.option(data, "levels")),
            kept=kept,
        )
    scans, refused = datasets.read_tfds(
        place,
        data_dir=data.tfds_dir or None,
        max_pixels=data.max_pixels,
        nm_per_pixel=nm,
        masks=masks,
        skip_bad=data.skip_bad,
    )
    return [kept(scan) for scan in scans], refused


def _simulated(kind: str, data) -> list[Scan]:
    how_many = {"num_scans": data.num_simulated, "seed": data.simulator_seed}
    if kind == "emulsion":
        return emulsion.emulsion_scans(emulsion.EmulsionSettings(), **how_many)
    if kind == "cells":
        return cells.cells_scans(cells.CellsSettings(), **how_many)
    return simulator.simulated_scans(simulator.SimulatorSettings(), **how_many)


def grouped(scans: list[Scan], pattern: str) -> list[Scan]:
    """Returns the scans, each with the group (patient, sample) that the one bracket of the regular expression finds in its id.

    Raises FieldError with the first id in which the pattern is not found.
    """
    found = {scan.id: re.search(pattern, scan.id) for scan in scans}
    lost = [id for id, match in found.items() if match is None or match[1] is None]
    if lost:
        raise FieldError(f"config.data.group_by={pattern!r}: {len(lost)} of {len(scans)} scans have no such part, the first is {lost[0]}.")
    return [dataclasses.replace(scan, group=found[scan.id][1]) for scan in scans]
