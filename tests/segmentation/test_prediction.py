"""Scans segmented by a small random U-Net: tiles equal the whole, the run's preparation, files, tables, interruptions, arrivals."""

import csv
import dataclasses
import json
import re
import signal
import threading
import time

import cv2
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from microscopy import tiling
from microscopy.folder import read_scan
from microscopy.formats import read_image
from microscopy.native import list_channels
from microscopy.normalisation import ValueMap
from microscopy.scan import DataError, Scan
from microscopy.writing import encode_gwy, encode_tiff
from segmentation import inference, prediction
from segmentation.networks import UNet, multiple, receptive_radius
from segmentation.whole import make_whole
from training import arrivals
from training.errors import ConfigError, RunError
from training.prediction import Request
from training.signals import Stop

RANDOM = np.random.default_rng(0)
GREY = ValueMap(0.0, 255.0, "grey", (0.0, 0.0))
HEIGHTS = ValueMap(-1.0, 3.0, "nm", (0.0, 0.0), (2.0, 2.0))


def data(**fields):
    plain = {"channels": 1, "levelling": "auto", "margins": (0, 0, 0, 0), "max_pixels": 500_000, "channel": "", "crop": 0}
    return ml_collections.ConfigDict({**plain, "height": 64, "width": 64} | fields)


def unet(**fields):
    """A U-Net, random in every number, its probability function and the shapes that one was compiled for."""
    model, compiled = UNet(**{"num_maps": 1, "base_width": 4, "depth": 2, "norm": "batch"} | fields), []
    variables = model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 1)), train=False)
    leaves, tree = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    bumped = [leaf + 0.05 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    variables = jax.tree.unflatten(tree, bumped)

    @jax.jit
    def probability(image):
        compiled.append(image.shape)
        return jax.nn.sigmoid(4 * model.apply(variables, image, train=False)[..., 0])

    return model, probability, compiled


MODEL, PROBABILITY, COMPILED = unet()


def whole(image, probability=PROBABILITY):
    """What the network says of an image (h, w, 1) in [-1, 1] continued by reflection to multiples of 64, at once."""
    height, width = image.shape[:2]
    wide = np.pad(image, [(0, -height % 64), (0, -width % 64), (0, 0)], mode="reflect")
    return np.asarray(probability(wide[None]))[0, :height, :width]


@jax.jit
def bright(image):
    """Stands in for a network where the result must be known: bright pixels are foreground."""
    return (image.mean(-1) + 1) / 2


def network(probability=PROBABILITY, value_map=GREY, model=MODEL, **fields):
    return inference.network_of(model, probability, data(**fields), value_map)


BRIGHT = inference.Network(bright, data(), GREY, 0, 1, 1)


def predict(network, place, output, **options):
    return prediction.predict(network, Request(str(place), str(output), **options), {"step": 1})


def discs(shape=(60, 80), *, background=20, foreground=220):
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.full(shape, background, np.uint8)
    for row, column, radius in ((20, 20, 9), (40, 55, 12)):
        image[(y - row) ** 2 + (x - column) ** 2 <= radius**2] = foreground
    return image


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_tiles_and_the_ladder_equal_the_whole():
    one = network()
    for shape in ((96, 131), (33, 64), (5, 90)):
        image = RANDOM.uniform(-1, 1, (*shape, 1)).astype(np.float32)
        tiled = inference.in_tiles(one, image, tile=60)
        assert tiled.shape == shape and whole(image).std() > 0.02
        np.testing.assert_allclose(tiled, whole(image), atol=1e-5)
    large = np.tile(image, (30, 2, 1))[:150, :170]
    np.testing.assert_allclose(inference.in_tiles(one, large, tile=600, ladder=True), whole(large), atol=1e-5)


@pytest.mark.parametrize(("norm", "crop"), [("batch", 64), ("batch", 96), ("group", 64)])
def test_a_scan_is_judged_by_the_probability_that_is_predicted(norm, crop):
    model, probability, compiled = unet(norm=norm)
    one = network(probability, model=model, crop=crop)
    for shape in ((70, 129), (90, 150)):
        scan = Scan("a", RANDOM.integers(0, 256, shape, np.uint8), "")
        judged = make_whole(model, probability, crop / 64)(GREY.to_unit(scan.pixels)[..., None])
        found = inference.segment(one, scan).probability
        assert judged.shape == shape and judged.std() > 0.02
        np.testing.assert_allclose(judged, found, atol=1e-5)
    assert len(compiled) == 1 or crop > 64


def test_the_halo_and_multiple_are_the_networks_and_group_norm_sees_the_whole():
    one = network()
    assert (one.halo, one.multiple, one.num_maps) == (max(receptive_radius(MODEL)), 4, 4) and multiple(MODEL) == (4, 4)
    assert inference.automatic_tile(one) % one.step == 0 and one.step == 32
    model, probability, _ = unet(norm="group")
    image = RANDOM.uniform(-1, 1, (50, 33, 1)).astype(np.float32)
    group = network(probability, model=model)
    np.testing.assert_allclose(inference.in_tiles(group, image, tile=16), whole(image, probability), atol=1e-5)
    with pytest.raises(ConfigError, match="group norm sees the whole image"):
        predict(group, "in", "out", tile=64)


def test_many_sizes_compile_few_shapes(tmp_path, capsys):
    for index in range(12):
        shape = (40 + 64 * (index % 4), 60 + 64 * (index // 4))
        cv2.imwrite(str(tmp_path / f"{index:02d}.png"), RANDOM.integers(0, 256, shape, np.uint8))
    COMPILED.clear()
    predict(network(), tmp_path, tmp_path / "out")
    assert 0 < len(COMPILED) <= 8
    assert "More than 8 sizes" in capsys.readouterr().out
    scan = read_scan("x", tmp_path / "11.png", max_pixels=10**6)
    found = list_channels(tmp_path / "out" / "11_probability.tiff", max_pixels=10**6)[0].pixels
    np.testing.assert_allclose(found, whole(GREY.to_unit(scan.pixels)[..., None]), atol=1e-5)


def test_the_files_of_a_scan_and_the_tables(tmp_path, capsys):
    (tmp_path / "in" / "b").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "in" / "a.png"), discs())
    (tmp_path / "in" / "b" / "c.tif").write_bytes(encode_tiff(discs(), (2.0, 2.0)))
    outcome = predict(BRIGHT, tmp_path / "in", out := tmp_path / "out")
    assert (outcome.written, outcome.refused) == (2, [])
    mask = read_image(out / "a_mask.png", max_pixels=10**6)
    assert mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 255}
    np.testing.assert_array_equal(mask > 0, discs() > 100)
    numbered = read_image(out / "a_instances.png", max_pixels=10**6)
    assert numbered.dtype == np.uint16 and numbered.max() == 2 and numbered[20, 20] == 1 and numbered[40, 55] == 2
    (stored,) = list_channels(out / "b" / "c_probability.tiff", max_pixels=10**6)
    assert stored.pixels.dtype == np.float32 and stored.nm_per_pixel == pytest.approx((2.0, 2.0))
    np.testing.assert_allclose(stored.pixels, discs() / 255, atol=1e-6)
    overlay = read_image(out / "a_overlay.png", max_pixels=10**6)
    edge = (overlay == (255, 120, 0)).all(-1)
    assert overlay.shape == (60, 80, 3) and edge.any() and (numbered[edge] > 0).all() and (np.diff(overlay[~edge]) == 0).all()
    rows, images = table(out / "particles.csv"), table(out / "images.csv")
    assert [row["scan"] for row in rows] == ["a", "a", "b/c", "b/c"] and [row["scan"] for row in images] == ["a", "b/c"]
    area = np.count_nonzero(numbered == 1)
    assert float(rows[0]["area_px2"]) == area and float(rows[2]["area_nm2"]) == pytest.approx(4 * area) and rows[0]["area_nm2"] == ""
    assert float(rows[2]["y_nm"]) == pytest.approx(40) and float(rows[0]["mean_intensity"]) == 220
    assert float(images[0]["coverage"]) == pytest.approx(np.mean(mask > 0))
    assert float(images[1]["density_per_um2"]) == pytest.approx(2 / (60 * 80 * 4) * 1e6) and images[0]["density_per_um2"] == ""
    assert float(images[0]["density_per_megapixel"]) == pytest.approx(2 / 4800 * 1e6)
    times = capsys.readouterr().out
    assert re.search(r"device alone: p50 [\d.]+ ms, p90 [\d.]+ ms \(2 images\)", times) and "file to files" in times and "p99" not in times
    assert "p99 0.99 ms (101 images)" in prediction.times_text(np.arange(101) * 1e-5) and "(1 image)" in prediction.times_text([0.1])


def test_tables_are_the_same_after_an_interruption_and_a_resume(tmp_path, monkeypatch):
    for index in range(6):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.roll(discs(), index, 0))
    predict(BRIGHT, tmp_path, tmp_path / "whole")
    monkeypatch.setattr(prediction, "WORKERS", 1)
    stop, real = Stop(), prediction.contents

    def stopping(network, scan, found):
        stop.signal = signal.SIGINT if scan.id == "2" else None
        return real(network, scan, found)

    monkeypatch.setattr(prediction, "contents", stopping)
    assert predict(BRIGHT, tmp_path, tmp_path / "twice", stop=stop).written == 3
    assert {row["scan"] for row in table(tmp_path / "twice" / "particles.csv")} == {"0", "1", "2"}
    stop.signal = None
    monkeypatch.setattr(prediction, "contents", real)
    assert predict(BRIGHT, tmp_path, tmp_path / "twice").there == 3
    for name in ("particles.csv", "images.csv", "4_instances.png"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "twice" / name).read_bytes()
    (tmp_path / "twice" / "3_particles.json").write_text('{"image": 3}')
    with pytest.raises(RunError, match="3_particles.json is damaged"):
        predict(BRIGHT, tmp_path, tmp_path / "twice")


def test_an_error_leaves_the_tables_of_what_was_done(tmp_path, monkeypatch):
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"{index}.png"), discs())
    monkeypatch.setattr(prediction, "WORKERS", 1)
    real = prediction.contents

    def failing(network, scan, found):
        if scan.id == "2":
            raise RunError("the disk is full")
        return real(network, scan, found)

    monkeypatch.setattr(prediction, "contents", failing)
    with pytest.raises(RunError, match="the disk is full"):
        predict(BRIGHT, tmp_path, tmp_path / "out")
    assert [row["scan"] for row in table(tmp_path / "out" / "images.csv")] == ["0", "1"]


def test_what_arrives_is_tiled_whatever_came_before_it():
    one = network(margins=(3, 0, 0, 0))
    least = tiling.least_rung(one.halo, one.step)
    needs = prediction.make_needs_ladder(Request("in", "out", watch=True), one, 64 * 20)
    small, large = (Scan("a", np.zeros((side + 3, 64 * 9), np.uint8), "") for side in (64, 64 * 10))
    assert 64 < least < 64 * 9
    for index in range(6):
        assert needs(small) and not needs(large)
        needs(Scan("b", np.zeros((64 * (index + 8), 64 * 12), np.uint8), ""))
    assert needs(small) and not needs(large) and needs(Scan("c", np.zeros((64 * 9, 64 * 14), np.uint8), ""))
    assert needs(small) and needs(large)


def test_of_files_that_arrive_with_one_name_the_first_is_taken(tmp_path, monkeypatch):
    assert cv2.imwritemulti(str(tmp_path / "s.tif"), [discs()] * 2)
    cv2.imwrite(str(tmp_path / "s_page0002.png"), discs())
    stop, rounds = (
        Stop(),
        [{"s_page0002": tmp_path / "s_page0002.png"}, {"s": tmp_path / "s.tif"}, {"s_page0002": tmp_path / "s_page0002.png"}],
    )

    def settled(place, stop):
        yield from rounds
        stop.signal = signal.SIGINT

    monkeypatch.setattr(arrivals, "settled", settled)
    outcome = predict(BRIGHT, tmp_path, tmp_path / "out", watch=True, stop=stop)
    assert (outcome.written, outcome.there) == (1, 1) and [item.file for item in outcome.refused] == [str(tmp_path / "s.tif")]
    assert "same name as the scan s_page0002 of s_page0002.png" in outcome.refused[0].reason


def test_each_page_of_a_stack_is_a_scan(tmp_path):
    pages = [np.roll(discs(), 3 * index, 1) for index in range(3)]
    assert cv2.imwritemulti(str(tmp_path / "s.tif"), pages)
    (tmp_path / "t.tif").write_bytes(encode_tiff(discs()))
    predict(BRIGHT, tmp_path, tmp_path / "out")
    for index, page in enumerate(pages, 1):
        np.testing.assert_array_equal(read_image(tmp_path / "out" / f"s_page{index:04d}_mask.png", max_pixels=10**6) > 0, page > 100)
    assert [row["scan"] for row in table(tmp_path / "out" / "images.csv")] == ["s_page0001", "s_page0002", "s_page0003", "t"]
    cv2.imwrite(str(tmp_path / "s_page0002.png"), discs())
    with pytest.raises(DataError, match=r"would have the same name as the scan s_page0002"):
        predict(BRIGHT, tmp_path, tmp_path / "out2")


def test_heights_are_levelled_brought_to_the_runs_pixels_and_back(tmp_path):
    y, x = np.mgrid[:60, :80]
    height = (discs(background=0, foreground=3) + 0.4 * y - 0.2 * x + 7).astype(np.float32)
    (tmp_path / "h.gwy").write_bytes(encode_gwy(height, (4.0, 4.0)))
    seen = []

    def probability(image):
        seen.append(np.asarray(image))
        return bright(image)

    one = inference.Network(probability, data(levelling="plane"), HEIGHTS, 0, 1, 1)
    found = inference.segment(one, read_scan("h", tmp_path / "h.gwy", max_pixels=10**6))
    assert seen[0].shape == (1, 128, 192, 1) and found.probability.shape == (60, 80)
    assert abs(found.scan.pixels).max() < 4 and found.scan.pixels[20, 20] > found.scan.pixels[5, 60] + 2
    predict(BRIGHT.__class__(bright, data(levelling="plane"), HEIGHTS, 0, 1, 1), tmp_path, tmp_path / "out")
    (first, second) = table(tmp_path / "out" / "particles.csv")
    assert float(first["height_max_nm"]) == pytest.approx(3, abs=0.5) and float(second["equivalent_diameter_nm"]) == pytest.approx(
        96, rel=0.1
    )


def test_margins_of_the_run_are_cut_off_and_are_background():
    image = discs()
    image[50:] = 255
    one = inference.Network(bright, data(margins=(0, 4, 10, 0)), GREY, 0, 1, 1)
    scan = Scan("a", image, "", nm_per_pixel=(2.0, 2.0))
    found = inference.segment(one, scan)
    assert not found.probability[50:].any() and not found.probability[:, 76:].any() and found.scan.pixels.shape == (50, 76)
    files = prediction.contents(one, scan, found)
    part = json.loads(files["_particles.json"])
    assert part["image"]["height_px"] == 50 and len(part["particles"]) == 2 and part["particles"][1]["touches_border"]
    with pytest.raises(DataError, match="margins of the run leave nothing"):
        inference.segment(inference.Network(bright, data(margins=(40, 0, 40, 0)), GREY, 0, 1, 1), scan)


@pytest.mark.parametrize(
    ("scan", "value_map", "match"),
    [
        (Scan("a", discs(), "", "a.png"), HEIGHTS, "a.png: holds grey, the run was trained on nm"),
        (Scan("a", discs().astype(np.float32), "", "a.gwy", "nm"), GREY, "a.gwy: holds nm, the run was trained on grey"),
        (Scan("a", discs(), "", "a.png"), ValueMap(300.0, 4000.0, "grey", (0, 0)), "a.png: uint8 values from 20 to 220"),
        (
            Scan("a", discs().astype(np.uint16) * 200, "", "a.png"),
            GREY,
            "uint16 values from 4000 to 44000, the run was trained on 0 to 255",
        ),
        (Scan("a", np.zeros((9, 9, 4), np.uint8), "", "a.png"), GREY, "4 channels"),
        (Scan("a", np.ones((9, 9), np.float32), "", "a.gwy", "nm", (99.0, 99.0)), HEIGHTS, "a.gwy: has 99 nm per pixel"),
    ],
)
def test_a_scan_of_another_kind_is_told_in_one_line(scan, value_map, match):
    with pytest.raises(DataError, match=match) as error:
        inference.segment(inference.Network(bright, data(levelling="none"), value_map, 0, 1, 1), scan)
    assert len(str(error.value).splitlines()) == 1


def test_crops_reduced_for_training_set_the_scale_where_no_pixel_size_is_stated():
    one = inference.Network(bright, data(crop=128), GREY, 0, 1, 1)
    assert inference.scale_factors(None, one) == (0.5, 0.5)
    found = inference.segment(one, Scan("a", discs(), "")).probability
    assert found.shape == (60, 80) and np.mean((found > 0.5) != (discs() > 100)) < 0.03


def test_a_scan_that_states_no_size_has_the_one_the_run_was_told():
    value_map = dataclasses.replace(GREY, nm_per_pixel=(4.0, 4.0))
    plain, told = (inference.Network(bright, data(crop=128, **words), value_map, 0, 1, 1) for words in ({}, {"nm_per_pixel": 2.0}))
    assert inference.scale_factors(None, plain) is None and inference.scale_factors(None, told) == (0.5, 0.5)
    assert inference.scale_factors((1.0, 1.0), told) == (0.25, 0.25)
    scan, stated = Scan("a", discs(), ""), Scan("a", discs(), "", nm_per_pixel=(2.0, 2.0))
    assert np.array_equal(inference.segment(told, scan).probability, inference.segment(plain, stated).probability)
    assert not np.array_equal(inference.segment(plain, scan).probability, inference.segment(plain, stated).probability)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"tile": 10}, "a multiple of 4, "),
        ({"tile": 62}, "a multiple of 4, "),
        ({"format": "png"}, "--format"),
        ({"smoothing": 1.0}, "--smooth"),
    ],
)
def test_a_request_that_cannot_be_is_told(options, match, tmp_path):
    with pytest.raises(ConfigError, match=match):
        predict(network(), tmp_path, tmp_path / "out", **options)


def test_the_least_tile_will_do(tmp_path):
    one = network()
    cv2.imwrite(str(tmp_path / "a.png"), image := RANDOM.integers(0, 256, (61, 70), np.uint8))
    with pytest.raises(ConfigError) as error:
        predict(one, tmp_path, tmp_path / "out", tile=4)
    (least,) = re.findall(r"a multiple of 4, (\d+) pixels at least", str(error.value))
    predict(one, tmp_path, tmp_path / "out", tile=int(least))
    found = list_channels(tmp_path / "out" / "a_probability.tiff", max_pixels=10**6)[0].pixels
    np.testing.assert_allclose(found, whole(GREY.to_unit(image)[..., None]), atol=1e-5)


def test_a_bad_file_is_named_and_the_tables_have_the_others(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), discs())
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    with pytest.raises(RunError, match=r"1 of 2 files have no prediction"):
        predict(BRIGHT, tmp_path, tmp_path / "out")
    assert [row["scan"] for row in table(tmp_path / "out" / "images.csv")] == ["a"]


def test_a_watch_segments_files_as_they_arrive_once_they_are_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(arrivals, "POLL_SECONDS", 0.3)
    (tmp_path / "in").mkdir()
    stop, content, seen = Stop(), cv2.imencode(".png", discs())[1].tobytes(), {}

    def wait_for(name):
        limit = time.monotonic() + 20
        while not (tmp_path / "out" / name).exists() and time.monotonic() < limit:
            time.sleep(0.02)

    def copy():
        try:
            (tmp_path / "in" / "a.png").write_bytes(content)
            wait_for("a_particles.json")
            with open(tmp_path / "in" / "b.png", "wb", buffering=0) as file:
                for part in (content[: len(content) // 2], content[len(content) // 2 :]):
                    file.write(part)
                    time.sleep(0.05)
            wait_for("b_particles.json")
            seen.update({name: (tmp_path / "out" / f"{name}_particles.json").exists() for name in "ab"})
        finally:
            stop.signal = signal.SIGINT

    thread = threading.Thread(target=copy)
    thread.start()
    outcome = predict(BRIGHT, tmp_path / "in", tmp_path / "out", watch=True, stop=stop)
    thread.join()
    assert seen == {"a": True, "b": True} and (outcome.written, outcome.refused) == (2, [])
    assert [row["scan"] for row in table(tmp_path / "out" / "images.csv")] == ["a", "b"]
    with pytest.raises(DataError, match="no such folder"):
        predict(BRIGHT, tmp_path / "none", tmp_path / "out3", watch=True, stop=stop)
