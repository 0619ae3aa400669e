"""Checks a set of scans and masks before it is trained on, and names what it finds; the exit code is 1 where it finds anything.

python -m tools.check_dataset --config=configs/dcgan96.py --config.data.source=folder:SCANS --config.data.masks=MASKS

unreadable  a scan or mask that cannot be read whole         size      scan and mask differ in size
unpaired    a scan without mask, a mask without scan         values    a mask has other values than the set's, or than --values
empty       a mask of one value                              shifted   the mask's outlines lie on the image's edges when moved
swapped     the mask fits another image better than its own  same mask two scans have one mask
duplicate   two scans show the same; the worst kind: across training, held-out and test (split by config.data and config.seed)

Where the config cannot divide the scans, the findings are printed all the same; the exit code is 2 then.

Scans are taken as config.data names them, masks included (`use_masks` and `skip_bad` are set), neither levelled nor resampled, one after
the other: small copies are all that is kept of one. Of z-stacks the middle planes are compared, and masks with images there.
"""

import collections
import dataclasses
import hashlib
import pathlib
import sys

import numpy as np
from absl import flags
from tqdm import tqdm

from microscopy import alignment, duplicates, fields, levels, listing, masks, preparation, sources, tiff_stack
from microscopy.scan import AllRefused, DataError, FieldError, Refused, Scan
from training import command
from training.errors import ConfigError, RunError


@dataclasses.dataclass(frozen=True)
class SeenMask:
    """What is kept of a mask: its range, shape and SHA-256; of its middle plane copies beside the image's, and the move that fits better.

    `copies` and `move` (`alignment.displacement`) are None where the plane is one value.
    """

    low: int
    high: int
    digest: tuple
    copies: alignment.Copies | None
    move: tuple[int, int] | None


@dataclasses.dataclass(frozen=True)
class Seen:
    """What is kept of a scan: all but its pixels and its mask, and its copy for comparison (`duplicates.descriptor`)."""

    scan: Scan
    descriptor: np.ndarray
    mask: SeenMask | None

    @property
    def name(self) -> str:
        """The file, or the id where there is none."""
        return self.scan.file or self.scan.id


def main(argv: list[str]) -> int:
    """Returns the exit code: 0 where nothing was found, 1 where something was, 2 for a wrong flag or field."""
    values = command.new_flags(argv)
    flags.DEFINE_list("values", None, "The values that a mask may have, such as 0,255; default: those of most masks.", flag_values=values)
    return command.run(argv, values, _run, __doc__)


def _run(values, stop) -> None:
    if values.config is None:
        raise ConfigError("--config=configs/NAME.py is needed, with --config.data.source=... for the scans.")
    config = values.config.copy_and_resolve_references()
    with config.unlocked():
        config.data.update({"use_masks": True, "skip_bad": True})
    fields.check(config)
    seen, refused = look(config.data)
    found = [("size" if _is_size(item.reason) else "unreadable", item.file, item.reason) for item in refused]
    mask_files, images = listed(config.data)
    found += unpaired(seen, mask_files, () if config.data.select else images)
    found += mask_values(mask_files, _allowed(values.values), config.data, refused)
    with_masks = [one for one in seen if one.mask is not None]
    found += empty(with_masks) + same_masks(with_masks)
    found += misplaced([one for one in with_masks if one.mask.copies is not None])
    duplicate, undivided = alike(seen, config)
    found += duplicate
    for name, subject, text in found:
        print(f"{name}: {subject}: {text}")
    counts = collections.Counter(name for name, _, _ in found)
    print(f"{len(seen)} scans read, {len(with_masks)} with masks, {len(refused)} refused.")
    told = f"{len(found)} findings: {', '.join(f'{number} {name}' for name, number in counts.items())}." if found else "Nothing found."
    if undivided:
        raise ConfigError(f"{undivided}\nSo duplicates were not held against the splits; all else was checked. {told}")
    if found:
        raise RunError(told)
    print(told)


def _is_size(reason: str) -> bool:
    return "differ in size" in reason or "its image has" in reason


def _allowed(values: list[str] | None) -> frozenset[int] | None:
    try:
        return None if values is None else frozenset(int(value) for value in values)
    except ValueError:
        raise ConfigError(f"--values={','.join(values)}: whole numbers with commas between.") from None


def look(data) -> tuple[list[Seen], list[Refused]]:
    """Returns what is seen of the scans that `config.data` names, and the files refused; DataError where there are none."""
    planes, kept = fields.num_planes(data), {}
    with tqdm(desc="scans", unit="scan") as bar:

        def keep(scan: Scan) -> Scan:
            middle = (..., scan.pixels.shape[2] // 2) if planes else ...
            mask = None if scan.mask is None else _seen_mask(scan.pixels[middle], scan.mask, scan.mask[middle])
            bare = dataclasses.replace(scan, pixels=np.empty((0, 0), scan.pixels.dtype), mask=None)
            kept[scan.id] = Seen(bare, duplicates.descriptor(scan.pixels[middle]), mask)
            bar.update()
            return bare

        try:
            scans, refused = sources.load_scans(data, keep)
        except AllRefused as error:
            return [], error.refused
    return [dataclasses.replace(kept[scan.id], scan=scan) for scan in scans], refused


def _seen_mask(pixels: np.ndarray, mask: np.ndarray, plane: np.ndarray) -> SeenMask:
    marks = np.ptp(plane) > 0
    copies, move = (alignment.copies(pixels, plane), alignment.displacement(pixels, plane)) if marks else (None, None)
    digest = (mask.shape, hashlib.sha256(mask.tobytes()).hexdigest())
    return SeenMask(int(mask.min()), int(mask.max()), digest, copies, move)


def listed(data) -> tuple[listing.Files, listing.Files]:
    """Returns (id -> mask files, id -> images) of the folder that `config.data` names, as reading finds them; else ({}, {})."""
    kind, _, place = data.source.partition(":")
    if kind != "folder":
        return {}, {}
    names = levels.parse(fields.option(data, "levels"))
    root, images = levels.listed(place, names)
    find = levels.level_masks(root, names, data.masks or None, images) if names else listing.mask_files(root, data.masks or None, images)
    return find, images


def unpaired(seen: list[Seen], mask_files: listing.Files, images) -> list[tuple[str, str, str]]:
    """Returns the findings of scans without a mask, and of mask files without one of the `images`; of () none can be without."""
    found = [("unpaired", one.name, "has no mask of its stem") for one in seen if one.mask is None]
    for id, files in mask_files.items():
        if images and id not in images:
            names = [str(file) if id.endswith((file.stem, file.name)) else f"{file}, {id}" for file in files]  # of a COCO file
            found += [("unpaired", name, "has no scan of its stem") for name in names]
    return found


def mask_values(mask_files: listing.Files, allowed: frozenset[int] | None, data, refused: list[Refused] = ()) -> list[tuple[str, str, str]]:
    """Returns the findings of masks with a value that is not `allowed`, and of those unreadable that none of the `refused` has named.

    None: where at least half of the masks have two values or fewer, and share them, every other one is named; maps of instances, each
    with numbers of its own, are left alone. Labelme's files have names, which reading them has checked.
    """
    sets, found = {}, []
    for file in (file for files in mask_files.values() for file in files if file.suffix.lower() != ".json"):
        try:
            sets[file] = _values(file, data)
        except DataError as error:
            if not any(str(file) in item.reason for item in refused):  # such as of a mask without a scan
                found.append(("unreadable", str(file), str(error).removeprefix(f"{file}: ")))
    if allowed is None:
        common = collections.Counter(found for found in sets.values() if len(found) == 2).most_common(1)
        if not common or 2 * common[0][1] < len(sets):
            return found
        allowed = common[0][0]
    for file, present in sets.items():
        strange = sorted(present - allowed)
        if strange:
            named = ", ".join(map(str, strange[:5])) + (" ..." if len(strange) > 5 else "")
            found.append(("values", str(file), f"has {named} beside {', '.join(map(str, sorted(allowed)))}"))
    return found


def _values(file: pathlib.Path, data) -> frozenset[int]:
    if fields.num_planes(data):
        return frozenset().union(*(np.unique(page).tolist() for page in tiff_stack.read_masks(file, max_pixels=data.max_pixels)))
    return frozenset(np.unique(masks.read_mask(file, max_pixels=data.max_pixels)).tolist())


def empty(seen: list[Seen]) -> list[tuple[str, str, str]]:
    """Returns the findings of masks that are one value throughout."""
    return [
        ("empty", one.name, "its mask marks nothing" if one.mask.high == 0 else "its mask marks all of it as one")
        for one in seen
        if one.mask.low == one.mask.high
    ]


def same_masks(seen: list[Seen]) -> list[tuple[str, str, str]]:
    """Returns the findings of masks that two scans share, empty ones excepted."""
    first, found = {}, []
    for one in seen:
        if one.mask.high > 0 and first.setdefault(one.mask.digest, one.scan.id) != one.scan.id:
            found.append(("same mask", one.name, f"has the mask of {first[one.mask.digest]}"))
    return found


def misplaced(seen: list[Seen]) -> list[tuple[str, str, str]]:
    """Returns the findings of masks that fit their image when moved, and of those that fit another image instead."""
    swapped, found = alignment.swapped([one.mask.copies for one in seen]), []
    for i, j, own, other in swapped:
        found.append(("swapped", seen[i].name, f"its mask fits {seen[j].scan.id} better ({other:.2f} against {own:.2f})"))
    lost = {i for i, _, _, _ in swapped}
    for index, one in enumerate(seen):
        if one.mask.move is not None and index not in lost:
            found.append(("shifted", one.name, "its mask fits when moved by {} px down and {} px right".format(*one.mask.move)))
    return found


def alike(seen: list[Seen], config) -> tuple[list[tuple[str, str, str]], str]:
    """Returns the findings of scans that show the same thing, those across the splits of training first, and why there are no splits.

    The reason is "" where the scans can be divided; where they cannot, the findings name no splits.
    """
    if not seen:
        return [], ""
    scans = [one.scan for one in seen]
    splits, undivided = _divided(scans, config)
    part_of = {scan.id: name for name, part in splits.items() for scan in part}
    pairs = duplicates.near_duplicates(np.stack([one.descriptor for one in seen]))
    found = []
    for i, j, correlation, turned in pairs:
        parts = part_of.get(scans[i].id), part_of.get(scans[j].id)
        across = f", across {parts[0]} and {parts[1]}" if parts[0] != parts[1] else f", both in {parts[0]}" if parts[0] else ""
        text = f"shows the same as {scans[j].id} (correlation {correlation:.2f}{', turned or mirrored' if turned else ''}){across}"
        found.append((parts[0] == parts[1], ("duplicate", scans[i].file or scans[i].id, text.replace("held_out", "held-out"))))
    return [finding for _, finding in sorted(found, key=lambda pair: pair[0])], undivided


def _divided(scans: list[Scan], config) -> tuple[dict[str, list[Scan]], str]:
    """(the splits of training, "") or ({}, why the scans cannot be divided)."""
    try:
        scans = sources.grouped(scans, config.data.group_by) if config.data.group_by else scans
        return preparation.divided(scans, config), ""
    except FieldError as error:
        return {}, str(error)


if __name__ == "__main__":
    command.leave(main(sys.argv))
