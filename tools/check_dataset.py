"""Checks a set of scans and masks before it is trained on, and names what it finds; the exit code is 1 where it finds anything.

python -m tools.check_dataset --config=configs/dcgan96.py --config.data.source=folder:SCANS --config.data.masks=MASKS

unreadable  a scan or mask that cannot be read whole         size      scan and mask differ in size
unpaired    a scan without mask, a mask without scan         values    a mask has other values than the set's, or than --values
empty       a mask of one value                              shifted   the mask's outlines lie on the image's edges when moved
swapped     the mask fits another image better than its own  same mask two scans have one mask
duplicate   two scans show the same; the worst kind: across training, held-out and test (split by config.data and config.seed)

Scans are taken as config.data names them, masks included (`use_masks` and `skip_bad` are set), neither levelled nor resampled.
"""

import collections
import hashlib
import pathlib
import sys

import numpy as np
from absl import flags
from tqdm import tqdm

from microscopy import alignment, duplicates, fields, folder, masks, normalisation, preparation
from microscopy.scan import DataError, FieldError
from training import command
from training.errors import ConfigError, RunError


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
    scans, refused = preparation.load_scans(config.data)
    found = [("size" if _is_size(item.reason) else "unreadable", item.file, item.reason) for item in refused]
    found += unpaired(scans, config.data)
    found += mask_values(mask_files(scans, config.data), _allowed(values.values), config.data.max_pixels)
    scans_with_masks = [scan for scan in scans if scan.mask is not None]
    found += empty(scans_with_masks) + same_masks(scans_with_masks)
    found += misplaced([scan for scan in tqdm(scans_with_masks, desc="alignment", unit="scan") if np.ptp(scan.mask) > 0])
    found += alike(scans, config)
    for name, subject, text in found:
        print(f"{name}: {subject}: {text}")
    counts = collections.Counter(name for name, _, _ in found)
    print(f"{len(scans)} scans read, {len(scans_with_masks)} with masks, {len(refused)} refused.")
    if found:
        raise RunError(f"{len(found)} findings: {', '.join(f'{number} {name}' for name, number in counts.items())}.")
    print("Nothing found.")


def _is_size(reason: str) -> bool:
    return "differ in size" in reason or "its image has" in reason


def _allowed(values: list[str] | None) -> frozenset[int] | None:
    try:
        return None if values is None else frozenset(int(value) for value in values)
    except ValueError:
        raise ConfigError(f"--values={','.join(values)}: whole numbers with commas between.") from None


def mask_files(scans, data) -> dict[str, pathlib.Path]:
    """Returns id -> mask file: of the folder that `config.data` names, else of those in, beside and in the class folders of its scans.

    {} where there is none.
    """
    kind, _, place = data.source.partition(":")
    if kind != "folder":
        return {}
    root, found = folder.image_root(pathlib.Path(place).expanduser()), {}
    places = {"": pathlib.Path(data.masks).expanduser()} if data.masks else {"": root / "masks"}
    if not data.masks:
        places |= {f"{one.parent.name}/": one for one in sorted(root.glob("*/masks"))}
        if not any(one.is_dir() for one in places.values()):
            places = {"": root.absolute().parent / "masks"}
    for prefix, folder_of_masks in places.items():
        if folder_of_masks.is_dir():
            try:
                found |= {f"{prefix}{id}": file for id, file in folder.list_scans(folder_of_masks).items()}
            except DataError:
                continue  # Labelme's files alone: reading them has checked their values
    return found


def unpaired(scans, data) -> list[tuple[str, str, str]]:
    """Returns the findings of scans without a mask, and of mask files without a scan where no list selects among the scans."""
    found = [("unpaired", scan.file or scan.id, "has no mask of its stem") for scan in scans if scan.mask is None]
    if data.source.startswith("folder:") and not data.select:
        known = folder.list_scans(data.source.partition(":")[2]).keys()
        found += [("unpaired", str(file), "has no scan of its stem") for id, file in mask_files(scans, data).items() if id not in known]
    return found


def mask_values(files: dict[str, pathlib.Path], allowed: frozenset[int] | None, max_pixels: int) -> list[tuple[str, str, str]]:
    """Returns the findings of masks with a value that is not `allowed`.

    None: where at least half of the masks have two values or fewer, and share them, every other one is named; maps of instances, each
    with numbers of its own, are left alone.
    """
    sets = {}
    for file in files.values():
        try:
            sets[file] = frozenset(np.unique(masks.read_mask(file, max_pixels=max_pixels)).tolist())
        except DataError:
            continue  # told already, as unreadable
    if allowed is None:
        common = collections.Counter(found for found in sets.values() if len(found) == 2).most_common(1)
        if not common or 2 * common[0][1] < len(sets):
            return []
        allowed = common[0][0]
    found = []
    for file, present in sets.items():
        strange = sorted(present - allowed)
        if strange:
            named = ", ".join(map(str, strange[:5])) + (" ..." if len(strange) > 5 else "")
            found.append(("values", str(file), f"has {named} beside {', '.join(map(str, sorted(allowed)))}"))
    return found


def empty(scans) -> list[tuple[str, str, str]]:
    """Returns the findings of masks that are one value throughout."""
    return [
        ("empty", scan.file or scan.id, "its mask marks nothing" if scan.mask.max() == 0 else "its mask marks all of it as one")
        for scan in scans
        if np.ptp(scan.mask) == 0
    ]


def same_masks(scans) -> list[tuple[str, str, str]]:
    """Returns the findings of masks that two scans share, empty ones excepted."""
    first, found = {}, []
    for scan in scans:
        digest = (scan.mask.shape, hashlib.sha256(scan.mask.tobytes()).hexdigest())
        if scan.mask.max() > 0 and first.setdefault(digest, scan.id) != scan.id:
            found.append(("same mask", scan.file or scan.id, f"has the mask of {first[digest]}"))
    return found


def misplaced(scans) -> list[tuple[str, str, str]]:
    """Returns the findings of masks that fit their image when moved, and of those that fit another image instead."""
    names = {index: scan.file or scan.id for index, scan in enumerate(scans)}
    swapped = alignment.swapped([(scan.pixels, scan.mask) for scan in scans])
    found = [("swapped", names[i], f"its mask fits {scans[j].id} better ({other:.2f} against {own:.2f})") for i, j, own, other in swapped]
    lost = {i for i, _, _, _ in swapped}
    for index, scan in enumerate(scans):
        moved = None if index in lost else alignment.displacement(scan.pixels, scan.mask)
        if moved is not None:
            found.append(("shifted", names[index], f"its mask fits when moved by {moved[0]} px down and {moved[1]} px right"))
    return found


def alike(scans, config) -> list[tuple[str, str, str]]:
    """Returns the findings of scans that show the same thing, those across splits first."""
    try:
        splits = normalisation.split(scans, config.seed, config.data.held_out, config.data.test)
    except FieldError as error:
        raise ConfigError(str(error)) from None
    part_of = {scan.id: name for name, part in splits.items() for scan in part}
    pairs = duplicates.near_duplicates(np.stack([duplicates.descriptor(scan.pixels) for scan in scans]))
    found = []
    for i, j, correlation, turned in pairs:
        parts = part_of.get(scans[i].id), part_of.get(scans[j].id)
        across = f", across {parts[0]} and {parts[1]}" if parts[0] != parts[1] else f", both in {parts[0]}"
        text = f"shows the same as {scans[j].id} (correlation {correlation:.2f}{', turned or mirrored' if turned else ''}){across}"
        found.append((parts[0] == parts[1], ("duplicate", scans[i].file or scans[i].id, text.replace("held_out", "held-out"))))
    return [finding for _, finding in sorted(found, key=lambda pair: pair[0])]


if __name__ == "__main__":
    command.leave(main(sys.argv))
