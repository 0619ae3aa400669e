"""Stacks segmented by a stand-in of which the result is known: pages, clusters, tables, going on, bad files."""

import csv
import json

import cv2
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from microscopy.normalisation import ValueMap
from microscopy.tiff_stack import read_stack
from microscopy.writing import encode_tiff_stack
from segmentation import inference, stack_prediction
from segmentation.networks import UNet
from training.errors import ConfigError, RunError
from training.prediction import Request

LIMITS = {"max_pixels": 100_000, "max_total": 1_000_000}
MODEL = UNet(num_maps=1, base_width=2, depth=1, kernel=(3, 3, 3), pool=(1, 2, 2))


@jax.jit
def dark(stacks):
    """Stands in for a network: dark voxels are foreground; of stacks (n, d, h, w, 1)."""
    assert stacks.ndim == 5
    return jnp.where(stacks[..., 0] < 0, 0.9, 0.1)


def network(nm=None, **fields):
    plain = {"channels": 1, "levelling": "auto", "margins": (0, 0, 0, 0), "max_pixels": 100_000, "channel": "", "crop": 32}
    data = ml_collections.ConfigDict({**plain, "height": 32, "width": 32, "planes": 8, "plane_nm": 1000.0, **fields})
    return inference.network_of(MODEL, dark, data, ValueMap(0.0, 255.0, "grey", (0.0, 0.0), nm), min_area=2)


def predict(network, place, output, **options):
    return stack_prediction.predict(network, Request(str(place), str(output), **options), {"step": 1})


def stack(planes):
    """A bright stack with a row of 21 dark voxels along x in plane 0, a speck, and, with more planes, a slanted line through them."""
    pixels = np.full((planes, 40, 64), 200, np.uint8)
    pixels[0, 10, 20:41] = 20
    pixels[0, 3, 3] = 20
    for plane in range(1, planes):
        pixels[plane, 20:22, 10 + 6 * plane : 16 + 6 * plane] = 20
    return pixels


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_pages_clusters_and_tables_and_the_same_command_goes_on(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name, planes in (("one", 1), ("six", 6)):
        (tmp_path / "in" / f"{name}.tif").write_bytes(encode_tiff_stack(stack(planes), (300.0, 300.0)))
    out = tmp_path / "out"
    outcome = predict(network((300.0, 300.0)), tmp_path / "in", out)
    assert (
        (outcome.written, outcome.refused) == (2, []) and "device alone: p50" in (said := capsys.readouterr().out) and "(2 stacks)" in said
    )
    masks = read_stack(out / "six_mask.tiff", **LIMITS)
    assert np.array_equal(np.stack([page.pixels for page in masks]), np.where(stack(6) < 100, 255, 0)) and masks[0].pixels.dtype == np.uint8
    maps = read_stack(out / "six_probability.tiff", **LIMITS)
    assert maps[0].pixels.dtype == np.float32 and maps[5].nm_per_pixel == pytest.approx((300.0, 300.0)) and len(maps) == 6
    rows = table(out / "clusters.csv")
    assert [(row["stack"], row["voxels"]) for row in rows] == [("one", "21"), ("six", "21"), ("six", "60")]  # the speck is below min_area
    assert float(rows[0]["length_um"]) == pytest.approx(6.3) and float(rows[0]["azimuth_degrees"]) == pytest.approx(0, abs=1e-6)
    assert float(rows[2]["dip_degrees"]) == pytest.approx(np.degrees(np.arctan2(1.0, 1.8)), abs=1.5) and rows[2]["touches_border"] == "1"
    assert float(rows[2]["mean_probability"]) == pytest.approx(0.9) and rows[0]["z_plane"] == "0.0"
    assert [(row["stack"], row["planes"], row["clusters"]) for row in table(out / "stacks.csv")] == [("one", "1", "1"), ("six", "6", "2")]
    assert json.loads((out / "prediction.json").read_text())["min_voxels"] == 2
    before = (out / "clusters.csv").read_bytes()
    (out / "one_mask.tiff").unlink()
    again = predict(network((300.0, 300.0)), tmp_path / "in", out)
    assert (again.written, again.there) == (1, 1) and (out / "clusters.csv").read_bytes() == before


def test_without_a_scale_lengths_are_in_voxels_and_other_pixels_are_resampled(tmp_path):
    (tmp_path / "a.tif").write_bytes(encode_tiff_stack(stack(2)))
    predict(network(), tmp_path / "a.tif", tmp_path / "plain")
    assert float(table(tmp_path / "plain" / "clusters.csv")[0]["length_px"]) == pytest.approx(21)
    (tmp_path / "b.tif").write_bytes(encode_tiff_stack(stack(2), (150.0, 150.0)))
    predict(network((300.0, 300.0)), tmp_path / "b.tif", tmp_path / "scaled")
    assert read_stack(tmp_path / "scaled" / "b_mask.tiff", **LIMITS)[1].pixels.shape == (40, 64)


def test_bad_files_are_named_and_the_others_go_on(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.tif").write_bytes(encode_tiff_stack(stack(2)))
    (folder / "cut.tif").write_bytes(encode_tiff_stack(stack(2))[:900])
    (folder / "deep.tif").write_bytes(encode_tiff_stack(stack(2).astype(np.float32) * 100))
    cv2.imwrite(str(folder / "image.png"), stack(1)[0])
    with pytest.raises(RunError, match="3 of 4 files have no prediction") as error:
        predict(network(), folder, tmp_path / "out")
    assert len(str(error.value).splitlines()) <= 5 and (tmp_path / "out" / "good_mask.tiff").exists()
    said = capsys.readouterr()
    assert "image.png: is no TIFF" in said.out + said.err


def test_what_is_not_for_stacks_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--watch"):
        predict(network(), tmp_path, tmp_path / "out", watch=True)
    with pytest.raises(ConfigError, match="--tile=8"):
        predict(network(), tmp_path, tmp_path / "out", tile=8)
