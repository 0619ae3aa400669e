"""--mode=inspect: what is printed, returned and drawn of a folder, of heights, and of what cannot be read."""

import json

import cv2
import jax
import numpy as np
import pytest

import input_pipeline
from configs import dcgan
from microscopy import normalisation, preparation
from microscopy.scan import DataError, Scan


def smooth_scan(name, height, width, seed, channels=None):
    shape = (height, width) if channels is None else (height, width, channels)
    noise = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return Scan(
        name, cv2.GaussianBlur(noise, (0, 0), 4), f"sha{name}", mask=np.arange(height * width, dtype=np.int32).reshape(height, width)
    )


@pytest.fixture
def folder(tmp_path):
    """Six 8-bit scans and a file that is none."""
    path = tmp_path / "scans"
    path.mkdir()
    for index in range(6):
        scan = smooth_scan("x", 70, 64, index)
        cv2.imwrite(str(path / f"scan{index}.png"), np.rint((normalisation.fit([scan]).to_unit(scan.pixels) + 1) * 100).astype(np.uint8))
    (path / "torn.png").write_bytes((path / "scan0.png").read_bytes()[:500])
    return path


def inspected(folder, **changes):
    config = dcgan.config("test", 16, 4, "tiny").unlock()
    config.data.update({"source": f"folder:{folder}", "skip_bad": True, **changes})
    return config


def test_inspect_returns_prints_and_writes_an_object_a_scan_and_a_refused_file(folder, tmp_path, capsys):
    workdir = tmp_path / "new" / "workdir"
    config = inspected(folder)
    rows = input_pipeline.inspect(config, workdir)
    lines = capsys.readouterr().out.splitlines()
    assert len(rows) == 7 and lines[0].startswith("file")
    assert json.loads((workdir / "inspect.json").read_text()) == rows
    splits = preparation.prepare(config).splits
    for row, line in zip(rows[:6], lines[1:7], strict=True):
        pixels = cv2.imread(str(folder / f"{row['id']}.png"), cv2.IMREAD_UNCHANGED)
        assert (row["min"], row["max"], row["mean"]) == (pixels.min(), pixels.max(), pytest.approx(pixels.mean()))
        assert row["shape"] == [70, 64] and row["dtype"] == "uint8" and row["unit"] == "grey" and row["nm_per_pixel"] is None
        assert row["refused"] is None and row["levelling"] == {"method": "none"} and row["file"] == str(folder / f"{row['id']}.png")
        assert row["id"] in [scan.id for scan in splits[row["split"]]] and row["warnings"] == []
        assert line.split() == [
            f"{row['id']}.png",
            "64",
            "x",
            "70",
            f"{row['min']:.4g}",
            "..",
            f"{row['max']:.4g}",
            "grey",
            "none",
            *row["split"].split("_"),
        ]
    assert rows[6]["file"].endswith("torn.png") and rows[6]["refused"] and rows[6]["split"] is None
    assert " ".join(" ".join(lines[7:-2]).split()) == f"refused {rows[6]['file']}: {rows[6]['refused']}"
    assert lines[-2].startswith("4 train, 1 held out, 1 test, 1 refused; crops 45 x 45 px to 16 x 16; ")
    names = ["inspect_crops.png", "inspect_scans.png", "inspect_statistics.png", "inspect.json"]
    assert lines[-1] == f"{workdir}: {', '.join(names)} written." and {path.name for path in workdir.iterdir()} == set(names)


def test_inspect_warns_and_says_so_in_the_scans_object(folder, capsys):
    pixels = cv2.imread(str(folder / "scan3.png"), cv2.IMREAD_UNCHANGED)
    pixels[-12:] = 0
    cv2.imwrite(str(folder / "scan3.png"), pixels)
    rows = input_pipeline.inspect(inspected(folder))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert line.startswith("warning: scan3.png: 12 rows at the bottom hold no image") and rows[3]["warnings"] == [
        line.removeprefix("warning: ")
    ]
    assert [row["warnings"] for row in rows[:3]] == [[]] * 3


def test_inspect_shows_sixteen_crops_as_the_network_sees_them(folder, tmp_path):
    config = inspected(folder)
    for name in "ab":
        input_pipeline.inspect(config, tmp_path / name)
    picture = cv2.imread(str(tmp_path / "a" / "inspect_crops.png"), cv2.IMREAD_UNCHANGED)
    assert (tmp_path / "a" / "inspect_crops.png").read_bytes() == (tmp_path / "b" / "inspect_crops.png").read_bytes()
    prepared = preparation.prepare(config)
    data = input_pipeline.make_data(config, prepared)
    images = np.asarray(data.sample(data.arrays, jax.random.key(config.seed), 16)["image"])[..., 0]
    for index, image in enumerate(images):
        top, left = index // 4 * 18, index % 4 * 18
        shown = picture[top : top + 16, left : left + 16].astype(np.float32) / 127.5 - 1
        assert np.abs(shown - image).max() <= 1 / 255 + 1e-4


def test_inspect_tells_the_scale_and_levelling_of_heights_and_needs_no_workdir(capsys):
    config = dcgan.config("test", 16, 4, "tiny").unlock()
    config.data.num_simulated = 1
    (row,) = input_pipeline.inspect(config)
    head, line, summary = capsys.readouterr().out.splitlines()
    assert row["unit"] == "nm" and row["nm_per_pixel"] == [0.25, 0.25] and row["levelling"]["method"] == "plane+backgrounds"
    assert head.split() == ["file", "size", "px", "channel", "nm/px", "area", "nm", "range", "levelling", "split"]
    assert line.split()[:9] == ["simulated_000", "512", "x", "512", "height", "0.25", "128", "x", "128"] and line.endswith(
        "plane+backgrounds  train"
    )
    assert "crops 256 x 256 px = 64 x 64 nm to 16 x 16; " in summary


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("rotation", "half", "config.data.rotation='half': choose free, quarter or none"),
        ("held_out", 1.0, "config.data.held_out=1.0: a share"),
        ("channels", 2, "config.data.channels=2: 1 or 3"),
        ("source", "scans", "config.data.source='scans': write simulated, emulsion, cells, folder:PATH or tfds:NAME"),
        ("crop", 60, r"with rotation free 6 of 6 scans are too small for 60 x 60 px: .*\.\.\."),
    ],
)
def test_inspect_names_the_field_or_file_that_cannot_be(folder, field, value, match):
    with pytest.raises(DataError, match=match) as error:
        input_pipeline.inspect(inspected(folder, **{field: value}))
    assert len(str(error.value).splitlines()) <= 5


def test_inspect_lists_what_cannot_be_read_and_says_that_training_would_stop(folder, capsys):
    rows = input_pipeline.inspect(inspected(folder, skip_bad=False))
    refused = [row["file"] for row in rows if row["refused"]]
    assert refused == [str(folder / "torn.png")]
    assert (
        capsys.readouterr().out.splitlines()[-1]
        == f"Training would stop at {refused[0]}: --config.data.skip_bad=true leaves out what cannot be read."
    )
    with pytest.raises(DataError, match="torn.png"):
        input_pipeline.prepare(inspected(folder, skip_bad=False))
