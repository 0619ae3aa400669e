"""What a config would train on, in words: a row a scan, an aligned table, and warnings with their remedy."""

import collections
import pathlib
import textwrap
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from microscopy import misfits
from microscopy.channels import Channel, label
from microscopy.duplicates import descriptor, near_duplicates
from microscopy.preparation import Prepared, area_text, classes
from microscopy.resampling import TOLERANCE
from microscopy.scan import DataError, Refused
from microscopy.units import nm_per

COLUMNS = 120
"""Characters a line of the table has at most."""

CLIPPED = 0.05
"""Share of pixels at one extreme value from which a scan counts as clipped."""

FAINT = 0.05
"""Four standard deviations of a scan that is nearly flat, as a share of what becomes -1 .. 1."""

MOST_COMPARED = 2000
"""Scans among which near-duplicates are sought; of a larger set as many, evenly spaced."""

UNBALANCED = 5
"""Training scans of the largest class for one of the smallest from which classes count as unbalanced."""

_CLASSES = "--config.data.classes=NAMES"
_SIDES = ("rows at the top", "columns at the right", "rows at the bottom", "columns at the left")
_LEAVE_OUT = "leave it out by --config.data.select=FILE (the ids to keep)"


class Finding(NamedTuple):
    """One warning: its kind, the id of the scan it is about, and a line that names the file and the remedy."""

    kind: str
    id: str
    text: str


def name(id: str, file: str) -> str:
    """Returns a scan's name for people: its id with the file's suffix, where the id is the file's stem, else the id."""
    path = pathlib.PurePath(file)
    return id + path.suffix if file and path.stem == id.rpartition("/")[2] else id


def warnings(prepared: Prepared, most: int = 3) -> list[str]:
    """Returns a line a warning (see `findings`), of each kind `most` at most and then how many more of it there are."""
    return shortened(findings(prepared), most)


def shortened(found: list[Finding], most: int) -> list[str]:
    """Returns the findings' lines, of each kind `most` at most and then how many more of it there are."""
    lines, kinds = [], collections.defaultdict(list)
    for finding in found:
        kinds[finding.kind].append(finding.text)
    for kind, texts in kinds.items():
        lines += texts[:most]
        lines += [f"{kind}: {len(texts) - most} more."] if len(texts) > most else []
    return lines


def findings(prepared: Prepared) -> list[Finding]:
    """Returns what may spoil a training.

    Mixed pixel sizes, a scan that keeps all crops small, grey files among colours, near-duplicates, those across two splits first, scans
    that are flat beside the others; then scan by scan unfinished lines, constant bands and clipped values.
    """
    found = [*_scales(prepared), *_small(prepared), *_classes(prepared), *_grey(prepared), *_duplicates(prepared), *_faint(prepared)]
    for id, facts in prepared.facts.items():
        found += _of_scan(id, name(id, facts["file"]), facts)
    return found


def _of_scan(id: str, who: str, facts) -> Iterable[Finding]:
    if facts["note"]:
        yield Finding("unfinished scans", id, f"{who}: {facts['note']}; {_LEAVE_OUT} if too little is left.")
    if any(facts["constant_bands"]):
        sides = zip(_SIDES, facts["constant_bands"], strict=True)
        where = " and ".join(f"{count} {side}" for side, count in sides if count)
        margins = tuple(band + cut for band, cut in zip(facts["constant_bands"], facts["margins"], strict=True))
        remedy = f'cut them from all scans by --config.data.margins="{margins}", or {_LEAVE_OUT}'
        yield Finding("constant bands", id, f"{who}: {where} hold no image (an info bar, one value); {remedy}.")
    for (value, share), what in zip(facts["clipped"], ("least", "greatest"), strict=True):
        if share >= CLIPPED:
            text = f"{who}: {share:.0%} of its pixels have its {what} value, {value:.4g} {facts['unit']}: clipped, or a mask; {_LEAVE_OUT}."
            yield Finding("clipped values", id, text)
            return


def _scales(prepared: Prepared) -> list[Finding]:
    changed = {id: facts for id, facts in prepared.facts.items() if facts["resampling"] and facts["resampling"]["factor"] != [1.0, 1.0]}
    stored = [value for facts in changed.values() for value in facts["nm_per_pixel"]]
    if not changed or max(stored) <= (1 + TOLERANCE) * min(stored) and len(changed) == len(prepared.facts):
        return []  # one scale for all, which another was asked for
    id = max(changed, key=lambda id: max(max(value, 1 / value) for value in changed[id]["resampling"]["factor"]))
    nm = changed[id]["resampling"]["nm_per_pixel"]
    who, count = name(id, changed[id]["file"]), f"{len(changed)} of {len(prepared.facts)} scans"
    text = f"{count} are resampled to {nm:.4g} nm per pixel, most of all {who}"
    return [Finding("mixed scales", id, f"{text} from {_nm(changed[id])}; another scale by --config.data.resample_nm=NM.")]


def _small(prepared: Prepared) -> list[Finding]:
    """One small scan decides the crop of all where none is set."""
    allowed = {id: facts["largest_crop"] for id, facts in prepared.facts.items()}
    found, longer = [], max(prepared.crop)
    if not allowed:
        return []
    id = min(allowed, key=allowed.get)
    who, usual = name(id, prepared.facts[id]["file"]), min(256, int(np.median(list(allowed.values()))))
    if longer < 0.75 * usual and longer > 0.9 * allowed[id]:
        text = f"{who}: is so small that crops are {longer} px, half of the scans allow {usual}; {_LEAVE_OUT}."
        found.append(Finding("scans that keep crops small", id, text))
    if prepared.size and longer < max(prepared.size):
        text = f"{who}: is too small for {prepared.size[1]} x {prepared.size[0]} px, crops of {longer} px are enlarged"
        remedy = "train a smaller size by --config.data.height=H --config.data.width=W"
        found.append(Finding("scans too small for the training size", id, f"{text}; {remedy}, or {_LEAVE_OUT}."))
    return found


def _classes(prepared: Prepared) -> Iterable[Finding]:
    """Classes that a split lacks, and training classes of very different numbers."""
    labels = {split: collections.Counter(scan.label for scan in part) for split, part in prepared.splits.items()}
    first = {scan.label: scan.id for part in prepared.splits.values() for scan in part}
    for kind in prepared.classes:
        for split in ("train", "held_out"):
            if prepared.splits[split] and not labels[split][kind]:
                total = sum(part[kind] for part in labels.values())
                text = f"class {kind}: {total} scan{'s' if total > 1 else ''} of too few groups, none is in the split {_words(split)}"
                yield Finding("classes missing in a split", first[kind], f"{text}; add scans, or leave the class out by {_CLASSES}.")
    counts = {kind: labels["train"][kind] for kind in prepared.classes if labels["train"][kind]}
    if counts and max(counts.values()) >= UNBALANCED * min(counts.values()):
        most, least = max(counts, key=counts.get), min(counts, key=counts.get)
        text = f"{counts[most]} training scans are {most}, {counts[least]} {least}: unbalanced; weigh or draw the classes alike"
        yield Finding("unbalanced classes", first[least], f"{text}, or leave some out by {_CLASSES}.")


def _grey(prepared: Prepared) -> Iterable[Finding]:
    """Grey files are repeated to colours, and look like no others."""
    labels = {scan.id: scan.label for part in prepared.splits.values() for scan in part}
    grey = {id: facts.get("grey", False) for id, facts in prepared.facts.items() if facts["shape"][2:] == [3]}
    if text := misfits.grey_among_colours(grey, labels):
        remedy = "a network tells them apart by that; store all alike, or train in grey by --config.data.channels=1"
        yield Finding("grey files among colours", next(id for id, one in grey.items() if one), f"{text}: {remedy}.")


def _faint(prepared: Prepared) -> Iterable[Finding]:
    """Scans that the one map to [-1, 1] leaves next to no contrast: scans of another kind."""
    low, high, unit = prepared.value_map.low, prepared.value_map.high, prepared.value_map.unit
    for scan in (scan for part in prepared.splits.values() for scan in part):
        spread = 4.0 * float(np.std(scan.pixels, dtype=np.float64))
        if spread < FAINT * (high - low):
            values = f"its values spread over {spread:.3g} {unit}, the set's over {high - low:.3g}: nearly flat in training"
            yield Finding(
                "scans nearly flat", scan.id, f"{name(scan.id, scan.file)}: {values}; {_LEAVE_OUT}, or train on scans of one kind."
            )


def _duplicates(prepared: Prepared) -> list[Finding]:
    scans = [(scan, split) for split, part in prepared.splits.items() for scan in part]
    total = len(scans)
    if total > MOST_COMPARED:
        scans = [scans[i] for i in np.linspace(0, total - 1, MOST_COMPARED).astype(int)]
    if len(scans) < 2:
        return []
    across, within = [], []
    for i, j, correlation, turned in near_duplicates(np.stack([descriptor(scan.pixels) for scan, _ in scans])):
        (one, here), (other, there) = scans[i], scans[j]
        who = f"{name(one.id, one.file)} ({_words(here)}) and {name(other.id, other.file)} ({_words(there)})"
        how = f"show the same{', turned or mirrored' if turned else ''} (correlation {correlation:.2f})"
        if here == there:
            within.append(Finding("near-duplicates in one split", one.id, f"{who} {how}: counted twice; remove one."))
        else:
            remedy = "remove one, or keep them together by --config.data.group_by=REGEX"
            across.append(Finding("near-duplicates across splits", one.id, f"{who} {how}: scores on it are no test; {remedy}."))
    if total > MOST_COMPARED:
        within.append(Finding("compared", scans[0][0].id, f"near-duplicates were sought among {MOST_COMPARED} of {total} scans."))
    return across + within


def _words(split: str) -> str:
    return split.replace("_", " ")


def rows(prepared: Prepared, found: list[Finding], channels_of: Callable[[str], Iterable[Channel]]) -> list[dict]:
    """Returns plain JSON objects: one a scan with its facts, `split`, `refused` (None) and `warnings` (`found`), and the refused files'.

    `channels_of(file)` gives all that an instrument's file holds, in the units stored. Each channel becomes an object, with split None
    for those not trained on, and with the reason in `refused` where the whole file is not; photographs trained on are not read
    again. Shape, unit and values are as stored, before levelling and resampling.
    """
    split_of = {scan.id: split for split, part in prepared.splits.items() for scan in part}
    texts, objects = collections.defaultdict(list), []
    for finding in found:
        texts[finding.id].append(finding.text)
    for id, facts in prepared.facts.items():
        measured = facts["file"] and facts["unit"] != "grey"
        stored = [_stored(channel) for channel in channels_of(facts["file"])] if measured else []
        used = next((channel for channel in stored if channel["channel"] == facts["channel"]), {})
        objects.append({"id": id, **facts, **used, "split": split_of[id], "refused": None, "warnings": texts[id]})
        others = [channel for channel in stored if channel is not used]
        objects += [{"id": id, "file": facts["file"], **channel, "split": None, "refused": None} for channel in others]
    return objects + [row for item in prepared.refused for row in _refused(item, channels_of)]


def _refused(item: Refused, channels_of) -> list[dict]:
    """One object a channel of a refused file where it can be read, else one."""
    facts = {"id": None, "file": item.file, "split": None, "refused": item.reason}
    try:
        return [facts | _stored(channel) for channel in channels_of(item.file)] or [facts]
    except DataError:
        return [facts]


def _stored(channel: Channel) -> dict:
    pixels = channel.pixels
    values = pixels[np.isfinite(pixels)].astype(np.float64)
    return {
        "channel": label(channel),
        "direction": channel.direction,
        "shape": list(pixels.shape),
        "dtype": str(pixels.dtype),
        "nm_per_pixel": list(channel.nm_per_pixel) if channel.nm_per_pixel else None,
        "unit": channel.unit,
        "min": float(values.min()) if values.size else None,
        "max": float(values.max()) if values.size else None,
        "mean": float(values.mean()) if values.size else None,
    }


def table(rows: list[dict]) -> str:
    """Returns the scans as aligned columns, 120 characters a line at most, each with what else its file holds, then the refused files.

    Sizes and areas are width x height. A column that says nothing of any scan is left out.
    """
    kept = [row for row in rows if row["split"]]
    cells = [("file", "size px", "channel", "nm/px", "area nm", "range", "levelling", "split"), *(_cells(row) for row in kept)]
    columns = [list(column) for column in zip(*cells, strict=True) if any(column[1:])] if kept else []
    head, *lines = _aligned(_narrowed(columns)) if kept else [""]
    others = collections.defaultdict(list)
    for row in rows:
        if not row["split"] and not row["refused"]:
            others[row["id"]].append(row["channel"])
    found = [head] if kept else []
    for row, line in zip(kept, lines, strict=True):
        found += [line, *(_wrapped(f"    not used: {', '.join(others[row['id']])}") if row["id"] in others else [])]
    for file, reason in dict.fromkeys((row["file"], row["refused"]) for row in rows if row["refused"]):
        found += _wrapped(f"refused {file}: {reason}")
    return "\n".join(found)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, COLUMNS, subsequent_indent="    ", break_long_words=False)


def _aligned(columns: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in columns]
    return ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in zip(*columns, strict=True)]


def _cells(row: dict) -> tuple[str, ...]:
    (height, width), nm, after = row["shape"][:2], row["nm_per_pixel"], row["resampling"]
    scale = _nm(row) if nm else ""
    if after and after["factor"] != [1.0, 1.0]:
        scale += f" -> {after['nm_per_pixel']:.4g}"
    area = area_text((height, width), nm).removesuffix(" nm") if nm else ""
    size, method = f"{width} x {height}", row["levelling"]["method"]
    size += "".join(f" x {planes}" for planes in row["shape"][2:] if planes not in (1, 3))
    return name(row["id"], row["file"]), size, row["channel"], scale, area, _range(row), method, _words(row["split"])


def _range(row: dict) -> str:
    """As stored, but lengths in nm: a column of one unit is compared at a glance."""
    factor = nm_per(row["unit"])
    low, high = (value * (factor or 1.0) for value in (row["min"], row["max"]))
    return f"{low:.4g} .. {high:.4g} {'nm' if factor else row['unit']}"


def _nm(row: dict) -> str:
    y, x = row["nm_per_pixel"]
    return f"{x:.4g}" if abs(y - x) < TOLERANCE * x else f"{x:.4g} x {y:.4g}"


def _narrowed(columns: list[list[str]]) -> list[list[str]]:
    """The columns with their longest texts shortened in the middle until a line fits; numbers stay whole."""
    widths = [max(map(len, column)) for column in columns]
    texts = [index for index, column in enumerate(columns) if column[0] in ("file", "channel", "levelling")]
    while sum(widths) + 2 * (len(widths) - 1) > COLUMNS:
        widest = max(texts, key=lambda index: widths[index])
        if widths[widest] <= 12:
            break
        widths[widest] -= 1
    return [[_fitted(text, width) for text in column] for column, width in zip(columns, widths, strict=True)]


def _fitted(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    head = (width - 2) // 2
    return f"{text[:head]}..{text[len(text) - (width - 2 - head) :]}"


def summary(prepared: Prepared) -> list[str]:
    """Returns lines: how many scans each split and class has, how crops are cut, what becomes -1 and 1."""
    counts = ", ".join(f"{len(part)} {_words(split)}" for split, part in prepared.splits.items())
    (height, width), nm, fitted = prepared.crop, prepared.value_map.nm_per_pixel, prepared.value_map
    size = prepared.size or prepared.crop
    area = f" = {area_text(size, nm)}" if nm else ""
    crop = f"crops {width} x {height} px{area} to {size[1]} x {size[0]}"
    lines = [f"{counts}, {len(prepared.refused)} refused; {crop}; {fitted.low:.4g} .. {fitted.high:.4g} {fitted.unit} to -1 .. 1."]
    if prepared.classes:
        lines.append(f"classes: {', '.join(f'{word} {count}' for word, count in classes(prepared).items())}.")
    return lines
