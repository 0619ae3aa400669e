"""Tables that line up, an object a scan and channel, and warnings: each planted flaw is found with its remedy, clean scans give none."""

import dataclasses
import json
import pathlib

import cv2
import numpy as np
import pytest

from configs import dcgan
from microscopy import inspection, native, preparation
from microscopy.channels import Channel
from microscopy.scan import Refused, Scan


def texture(seed, shape=(120, 140)):
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=shape).astype(np.float32), (0, 0), 2)
    return cv2.normalize(noise, None, 10, 240, cv2.NORM_MINMAX).astype(np.uint8)


def scan_of(id, pixels, **known):
    return Scan(id, pixels, f"sha{id}", file=f"scans/{id}.png", **known)


def prepared_of(monkeypatch, scans, refused=(), size=16, **changes):
    monkeypatch.setattr(preparation, "load_scans", lambda data: (list(scans), list(refused)))
    config = dcgan.config("test", size, 4, "tiny").unlock()
    config.data.update({"source": "folder:x", **changes})
    return preparation.prepare(config)


CLEAN = [scan_of(f"clean{index}", texture(index)) for index in range(8)]


def warned(monkeypatch, *scans, **changes):
    return inspection.warnings(prepared_of(monkeypatch, [*CLEAN, *scans], **changes))


def test_clean_scans_of_a_simulator_and_of_a_camera_give_no_warning(monkeypatch):
    assert warned(monkeypatch) == []
    config = dcgan.config("test", 32, 4, "tiny")
    assert inspection.warnings(preparation.prepare(config)) == []


def test_an_info_bar_is_named_with_the_margins_that_cut_it(monkeypatch):
    pixels = texture(20)
    pixels[-25:], pixels[:, :6] = 0, 255
    pixels[-25:, :6] = 0
    wanted = (
        "bar.png: 25 rows at the bottom and 6 columns at the left hold no image (an info bar, one value); "
        'cut them from all scans by --config.data.margins="(0, 0, 25, 6)", or leave it out by --config.data.select=FILE (the ids to keep).'
    )
    assert warned(monkeypatch, scan_of("bar", pixels)) == [wanted]
    (line,) = warned(monkeypatch, scan_of("bar", pixels), margins=(1, 0, 5, 0))  # what was cut before stays cut
    assert 'margins="(1, 0, 30, 6)"' in line


def test_clipped_grey_is_named_with_its_share(monkeypatch):
    pixels = np.clip(texture(21).astype(int) * 2 - 200, 0, 255).astype(np.uint8)
    pixels[-20:] = 130  # a band of another value is no part of the share
    share = np.mean(pixels[:-20] == 0)
    band, line = warned(monkeypatch, scan_of("dark", pixels))
    wanted = (
        f"dark.png: {share:.0%} of its pixels have its least value, 0 grey: clipped, or a mask; leave it out by --config.data.select=FILE"
    )
    assert "20 rows at the bottom" in band and line.startswith(wanted) and share > 0.1


def test_a_mask_among_the_scans_is_named(monkeypatch):
    mask = np.zeros((120, 140), np.uint8)
    cv2.circle(mask, (60, 60), 30, 255, -1)
    (line,) = warned(monkeypatch, scan_of("segmaps/clean0", mask))
    assert line.startswith(f"segmaps/clean0.png: {np.mean(mask == 0):.0%} of its pixels have its least value, 0 grey: clipped, or a mask; ")


def test_near_duplicates_are_named_in_pairs_and_across_splits_first(monkeypatch):
    mirrored = scan_of("mirrored", np.ascontiguousarray(texture(0)[:, ::-1]))
    again = scan_of("again", cv2.resize(texture(1), (112, 96), interpolation=cv2.INTER_AREA))
    prepared = prepared_of(monkeypatch, [*CLEAN, mirrored, again])
    split_of = {scan.id: split.replace("_", " ") for split, part in prepared.splits.items() for scan in part}
    pairs = {"clean0": ("mirrored", ", turned or mirrored"), "clean1": ("again", "")}
    lines = inspection.warnings(prepared)
    assert len(lines) == 2
    for one, (other, how) in pairs.items():
        (line,) = [line for line in lines if one in line]
        assert f"{other}.png ({split_of[other]})" in line and f"{one}.png ({split_of[one]})" in line and f"show the same{how} (corr" in line
        across = split_of[one] != split_of[other]
        assert ("scores on it are no test; remove one, or keep them together by --config.data.group_by=REGEX." in line) == across
        assert ("counted twice; remove one." in line) != across
    for seed in range(30):  # until one pair is parted and the other is not
        parted = inspection.warnings(prepared_of_seed(monkeypatch, [*CLEAN, mirrored, again], seed))
        kinds = ["no test" in line for line in parted]
        if kinds != [kinds[0]] * 2:
            assert kinds == [True, False]
            break
    else:
        pytest.fail("no seed parted one pair alone")


def prepared_of_seed(monkeypatch, scans, seed):
    monkeypatch.setattr(preparation, "load_scans", lambda data: (list(scans), []))
    config = dcgan.config("test", 16, 4, "tiny").unlock()
    config.data.update({"source": "folder:x", "held_out": 0.3})
    config.seed = seed
    return preparation.prepare(config)


def test_a_small_scan_is_named_for_what_it_does_to_all_crops(monkeypatch):
    (line,) = warned(monkeypatch, scan_of("little", texture(22, (50, 60))))
    assert line.startswith("little.png: is so small that crops are 35 px, half of the scans allow 84; leave it out")
    lines = warned(monkeypatch, scan_of("little", texture(22, (50, 60))), size=100)
    assert lines[1].startswith(
        "little.png: is too small for 100 x 100 px, crops of 35 px are enlarged; train a smaller size by --config.data.height"
    )
    assert warned(monkeypatch, scan_of("little", texture(22, (50, 60))), crop=20) == []  # set on purpose


def test_grey_files_among_colours_are_told_by_class(monkeypatch):
    colours = [np.repeat(scan.pixels[..., None], 3, axis=2) for scan in CLEAN]
    scans = [dataclasses.replace(scan, pixels=pixels, label="round") for scan, pixels in zip(CLEAN, colours, strict=True)]
    few = [*scans[2:], *(dataclasses.replace(scan, label="lobed") for scan in CLEAN[:2])]
    (line,) = (line for line in warned_of(monkeypatch, few, channels=3) if "grey" in line)
    text = f"2 of {len(CLEAN)} scans are stored in grey, the others in colour (2 of 2 of class lobed): a network tells them apart"
    assert line.startswith(text) and "--config.data.channels=1" in line
    for alike, channels in ((scans, 3), (CLEAN, 3), (few, 1)):
        assert not any("stored in grey" in line for line in warned_of(monkeypatch, alike, channels=channels))


def warned_of(monkeypatch, scans, **changes):
    monkeypatch.setattr(preparation, "load_scans", lambda data: (list(scans), []))
    config = dcgan.config("test", 16, 4, "tiny").unlock()
    config.data.update({"source": "folder:x", "held_out": 0.0, **changes})
    return inspection.warnings(preparation.prepare(config))


def heights_of(*scales, **known):
    return [
        Scan(f"z{i}", texture(30 + i).astype(np.float32), str(i), f"z{i}.sxm", "nm", (nm, nm), "Z forward", **known)
        for i, nm in enumerate(scales)
    ]


def warned_heights(monkeypatch, scans, **changes):
    return inspection.warnings(prepared_of(monkeypatch, scans, held_out=0.0, test=0.0, levelling="plane", **changes))


def test_unfinished_scans_and_mixed_scales_are_named(monkeypatch):
    (line,) = warned_heights(monkeypatch, heights_of(0.5, 0.5, note="unfinished: 20 at the bottom of 140 lines cut off"))[:1]
    assert line.startswith("z0.sxm: unfinished: 20 at the bottom of 140 lines cut off; leave it out by --config.data.select=FILE")
    lines = warned_heights(monkeypatch, heights_of(0.5, 0.5, 0.25, 0.5))
    wanted = "1 of 4 scans are resampled to 0.5 nm per pixel, most of all z2.sxm from 0.25; another scale by --config.data.resample_nm=NM."
    assert lines[0] == wanted
    assert warned_heights(monkeypatch, heights_of(0.5, 0.5), resample_nm=1.0) == []  # asked for


def test_a_scan_of_another_kind_is_named_as_flat_beside_the_others(monkeypatch):
    scans = heights_of(0.5, 0.5, 0.5, 0.5)
    scans[2].pixels[:] /= 50
    (line,) = warned_heights(monkeypatch, scans)
    assert line.startswith("z2.sxm: its values spread over 2.") and "nearly flat in training" in line and "config.data.select" in line


def test_of_many_alike_a_few_are_told_and_counted(monkeypatch):
    bars = [texture(40 + index) for index in range(6)]
    for pixels in bars:
        pixels[-10:] = 0
    prepared = prepared_of(monkeypatch, [*CLEAN, *(scan_of(f"bar{i}", pixels) for i, pixels in enumerate(bars))])
    lines = inspection.warnings(prepared)
    assert len(lines) == 4 and lines[3] == "constant bands: 3 more."
    assert len(inspection.warnings(prepared, most=10)) == 6 == len(inspection.findings(prepared))


def test_of_very_many_scans_some_are_compared(monkeypatch):
    monkeypatch.setattr(inspection, "MOST_COMPARED", 4)
    assert warned(monkeypatch) == ["near-duplicates were sought among 4 of 8 scans."]


def test_an_object_a_scan_and_channel_with_values_as_stored(monkeypatch):
    metres = np.random.default_rng(0).normal(-4e-8, 1e-9, (40, 60)).astype(np.float32)
    metres[35:] = np.nan
    channels = [
        Channel("Z", -metres, "m", (0.5, 0.25), "backward"),
        Channel("Z", metres, "m", (0.5, 0.25), "forward"),
        Channel("Current", np.full((40, 60), np.nan, np.float32), "A", None, "forward"),
    ]
    heights = metres[:35] * np.float32(1e9)
    scan = Scan("a", heights, "sha", "scans/a.sxm", "nm", (0.5, 0.25), "Z forward", note="unfinished: 5 at the bottom of 40 lines cut off")
    prepared = prepared_of(monkeypatch, [scan], [Refused("scans/torn.sxm", "is truncated")], levelling="plane")
    rows = inspection.rows(prepared, inspection.findings(prepared), lambda file: channels if file == "scans/a.sxm" else [])
    assert json.loads(json.dumps(rows)) == rows and len(rows) == 4
    used, backward, current, torn = rows
    assert (used["channel"], used["direction"], used["split"], used["refused"], used["unit"]) == (
        "Z forward",
        "forward",
        "train",
        None,
        "m",
    )
    assert (used["min"], used["max"]) == (np.nanmin(metres), np.nanmax(metres)) and used["shape"] == [40, 60]
    assert used["mean"] == pytest.approx(np.nanmean(metres.astype(np.float64)), rel=1e-12) and len(used["warnings"]) == 2
    assert used["levelling"]["method"] == "plane" and used["resampling"]["nm_per_pixel"] == pytest.approx(0.125**0.5)
    assert (backward["channel"], backward["split"], backward["refused"], backward["file"]) == ("Z backward", None, None, "scans/a.sxm")
    assert backward["max"] == np.nanmax(-metres) and "warnings" not in backward
    assert (current["min"], current["max"], current["mean"], current["nm_per_pixel"]) == (None, None, None, None)
    assert torn == {"id": None, "file": "scans/torn.sxm", "split": None, "refused": "is truncated"}
    head, line, others, refused = inspection.table(rows).splitlines()
    assert head.split("  ")[0] == "file" and "0.25 x 0.5 -> 0.3536" in line and line.endswith("train") and "15 x 20" in line
    low, high = (value * 1e9 for value in (np.nanmin(metres), np.nanmax(metres)))
    assert f"{low:.4g} .. {high:.4g} nm" in line  # lengths are shown in nm
    assert (others, refused) == ("    not used: Z backward, Current forward", "refused scans/torn.sxm: is truncated")


def test_photographs_are_not_read_again(monkeypatch):
    prepared = prepared_of(monkeypatch, CLEAN)
    rows = inspection.rows(prepared, [], lambda file: pytest.fail(f"{file} was read"))
    assert [row["id"] for row in rows] == [scan.id for scan in CLEAN] and {row["unit"] for row in rows} == {"grey"}


STORED = {  # of docs/data.md's source: file, channel as trained on, min, max, mean as stored
    "nanonis_Si_7x7_012.sxm": ("Z forward", -4.5663466e-08, -4.1215038e-08, -4.3233708e-08),
    "nanonis_Si_7x7_028.sxm": ("Z forward", -5.6867847e-08, -5.6220266e-08, -5.6533395e-08),
    "asylum_AR_20211011.ibw": ("HeightRetrace", -3.2459923e-08, 5.0788316e-08, None),
}


def test_real_files_come_back_as_stored_channel_by_channel(real_data, tmp_path, monkeypatch):
    folder = real_data / "spm-native"
    if not folder.is_dir():
        pytest.skip(f"no spm-native under {real_data}")
    chosen = tmp_path / "chosen.txt"
    chosen.write_text("\n".join(pathlib.PurePath(name).stem for name in STORED))
    config = dcgan.config("test", 16, 4, "tiny").unlock()
    config.data.update({"source": f"folder:{folder}", "select": str(chosen), "resample_nm": 2.0})
    prepared = preparation.prepare(config)
    rows = inspection.rows(prepared, [], lambda file: native.list_channels(file, max_pixels=10**7))
    for file, (channel, low, high, mean) in STORED.items():
        (row,) = [row for row in rows if row["file"] == str(folder / file) and row["split"]]
        assert row["channel"] == channel and row["unit"] == "m" and row["refused"] is None
        assert (row["min"], row["max"]) == (pytest.approx(low, rel=1e-6), pytest.approx(high, rel=1e-6))
        assert mean is None or row["mean"] == pytest.approx(mean, rel=1e-6)
        assert row["resampling"]["factor"][0] == pytest.approx(row["nm_per_pixel"][0] / 2.0)
    (current,) = [row for row in rows if row["channel"] == "Current forward" and row["file"].endswith("012.sxm")]
    assert (current["min"], current["max"]) == (pytest.approx(3.6006885e-11, rel=1e-6), pytest.approx(7.0571338e-10, rel=1e-6))
    assert current["mean"] == pytest.approx(3.0526723e-10, rel=1e-6) and (current["unit"], current["split"]) == ("A", None)


def test_the_table_lines_up_fits_120_characters_and_leaves_empty_columns_out(monkeypatch):
    scans = [scan_of(f"class/{'long_' * (30 if index == 2 else 1)}name{index}", texture(index)) for index in range(4)]
    refused = [Refused("scans/torn.png", "is truncated; " + "copy or export it again " * 6), Refused("x" * 130, "is empty")]
    prepared = prepared_of(monkeypatch, scans, refused)
    lines = inspection.table(inspection.rows(prepared, [], lambda file: [])).splitlines()
    assert lines[0].split() == ["file", "size", "px", "range", "levelling", "split"]
    assert max(len(line) for line in lines[:5]) == 120 and len({line.index("140 x 120") for line in lines[1:5]}) == 1
    assert lines[3].startswith("class/long_long") and ".." in lines[3] and "name2.png" in lines[3]
    assert lines[5].startswith("refused scans/torn.png: is truncated; copy") and lines[6].startswith("    ") and len(lines[5]) <= 120
    assert inspection.table([{"id": None, "file": "a", "split": None, "refused": "is empty"}]) == "refused a: is empty"


def test_the_summary_tells_splits_classes_crops_and_the_map(monkeypatch):
    scans = [
        scan_of(f"{'dot' if index % 2 else 'wire'}/{index}", texture(index), label="dot" if index % 2 else "wire") for index in range(5)
    ]
    scans = [Scan(**{**scan.__dict__, "nm_per_pixel": (0.5, 0.5)}) for scan in scans]
    first, second = inspection.summary(prepared_of(monkeypatch, scans))
    assert first.startswith("2 train, 2 held out, 1 test, 0 refused; crops 84 x 84 px = 42 x 42 nm to 16 x 16; ")
    assert first.endswith(" grey to -1 .. 1.") and second == "classes: dot 2, wire 3."


@pytest.mark.parametrize(
    ("id", "file", "wanted"),
    [
        ("a", "x/a.tif", "a.tif"),
        ("dot/a", "x/dot/a.tif", "dot/a.tif"),
        ("simulated_000", "", "simulated_000"),
        ("train/00003", "tfds:x/train/00003", "train/00003"),
    ],
)
def test_scans_are_called_by_their_id_and_suffix(id, file, wanted):
    assert inspection.name(id, file) == wanted


def test_classes_that_a_split_lacks_and_unbalanced_ones_are_told(monkeypatch):
    labels = ["dot"] * 15 + ["wire"] * 3 + ["ring"]
    scans = [scan_of(f"{label}/{index}", texture(index), label=label) for index, label in enumerate(labels)]
    found = inspection.findings(prepared_of(monkeypatch, scans))
    texts = {finding.kind: finding.text for finding in found if "class" in finding.kind}
    assert texts["classes missing in a split"].startswith("class ring: 1 scan of too few groups, none is in the split held out; add scans")
    assert texts["unbalanced classes"].startswith("11 training scans are dot, 1 ")
    assert all("--config.data.classes=NAMES" in text for text in texts.values())
    assert not [finding for finding in inspection.findings(prepared_of(monkeypatch, scans[:2] + scans[15:18])) if "class" in finding.kind]
