"""Scans enlarged by a small random generator: tiles equal the whole, depth, heights and pixel sizes come through, mixed folders."""

import dataclasses
import json

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

import resize
from microscopy.channels import to_nm
from microscopy.formats import read_image
from microscopy.native import list_channels
from microscopy.normalisation import ValueMap
from microscopy.scan import DataError, Scan
from microscopy.writing import encode_gwy, encode_tiff
from superres import prediction
from superres.networks import Generator
from superres.prediction import Network
from training.errors import ConfigError, RunError
from training.prediction import Request

RANDOM = np.random.default_rng(0)


def generator(scale=2, channels=1, **fields):
    """A Generator, random in every number, batch norm's statistics included, and `upscale` with the shapes it was compiled for."""
    model = Generator(scale=scale, channels=channels, **{"num_blocks": 2, "num_maps": 8, "first_kernel": 3, "last_kernel": 5} | fields)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, channels)), train=False)
    leaves, tree = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    bumped = [leaf + 0.03 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    variables, compiled = jax.tree.unflatten(tree, bumped), []

    @jax.jit
    def upscale(low):
        compiled.append(low.shape)
        return model.apply(variables, low, train=False)

    return model, upscale, compiled


def network(scale=2, channels=1, upscale=None, **fields):
    model, real, _ = generator(scale, channels, **fields)
    return Network(upscale or real, scale, channels, prediction.receptive_radius(model), model.num_maps)


SMALL = network()


def nearest(low):
    """Stands in for a network where what is written must be known exactly: each pixel twice along both axes."""
    return jnp.asarray(low).repeat(2, 1).repeat(2, 2)


NEAREST, NEAREST_RGB = Network(nearest, 2, 1, 0, 1), Network(nearest, 2, 3, 0, 1)


def predict(network, place, output, **options):
    request = Request(str(place), str(output), **options)
    return prediction.predict(network, request, {"step": 1, "format": request.format}, max_pixels=100_000)


@pytest.mark.parametrize(
    ("scale", "fields"),
    [(2, {}), (4, {}), (8, {}), (4, {"first_kernel": 9, "last_kernel": 3}), (2, {"first_kernel": 3, "last_kernel": 9, "num_blocks": 1})],
)
def test_the_receptive_radius_is_where_gradients_end(scale, fields):
    model, upscale, _ = generator(scale, **fields)
    radius = prediction.receptive_radius(model)
    size, middle = 2 * radius + 5, radius + 2
    window = (0, slice(scale * middle, scale * (middle + 1)), slice(scale * middle, scale * (middle + 1)))
    weights = jnp.asarray(RANDOM.normal(size=(scale, scale, 1)), jnp.float32)
    image = jnp.asarray(RANDOM.uniform(-0.1, 0.1, (1, size, size, 1)), jnp.float32)
    seen = np.abs(jax.grad(lambda low: (upscale(low)[window] * weights).sum())(image)[0, ..., 0]) > 0
    assert seen.any(1).nonzero()[0].tolist() == seen.any(0).nonzero()[0].tolist() == list(range(2, size - 2))


def test_the_published_generator_sees_40_pixels_and_its_tile_fits_the_budget():
    model = Generator()
    assert prediction.receptive_radius(model) == 4 + 32 + 1 + 3
    tile = prediction.automatic_tile(Network(None, 4, 1, 40, 64), 40)
    assert tile % prediction.STEP == 0 and tile >= 3 * 40 and tile**2 * 16 * 64 * 4 * prediction.COPIES <= prediction.BUDGET
    model, side = Generator(num_blocks=1), 64
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False))
    low = jax.ShapeDtypeStruct((1, side, side, 1), jnp.float32)
    planned = jax.jit(lambda variables, low: model.apply(variables, low, train=False)).lower(shapes, low).compile().memory_analysis()
    assert planned.temp_size_in_bytes == pytest.approx(side**2 * 16 * 64 * 4 * prediction.COPIES, rel=0.1)


@pytest.mark.parametrize(("scale", "channels", "pad_value"), [(2, 1, 0.0), (4, 3, -1.0), (8, 1, -1.0)])
def test_tiles_equal_the_whole(scale, channels, pad_value):
    model, upscale, _ = generator(scale, channels, pad_value=pad_value)
    halo = prediction.receptive_radius(model)
    for shape in ((70, 101), (64, 33), (3, 1)):
        low = RANDOM.uniform(-1, 1, (*shape, channels)).astype(np.float32)
        whole = np.asarray(upscale(low[None]))[0]
        tiled = prediction.enlarge(upscale, low, scale=scale, tile=2 * halo + 17, halo=halo)
        assert tiled.shape == whole.shape == (shape[0] * scale, shape[1] * scale, channels)
        np.testing.assert_allclose(tiled, whole, atol=1e-5)
        assert whole.std() > 0.02  # not in tanh's limits, where all would be equal


def test_a_ladder_of_tiles_compiles_few_shapes_and_equals_the_whole_but_near_the_border_of_small_images():
    model, upscale, compiled = generator()
    halo, least = prediction.receptive_radius(model), 64
    sizes = [(h, w) for h in range(65, 140, 9) for w in (66, 101, 150)] + [(h, 21 + h // 2) for h in range(20, 62, 3)]
    assert prediction.needs_ladder(sizes, 128) and not prediction.needs_ladder(sizes[:8], 128)
    assert not prediction.needs_ladder([(200 + i, 300 - i) for i in range(50)], 128)
    images = [RANDOM.uniform(-1, 1, (*size, 1)).astype(np.float32) for size in sizes]
    found = [prediction.enlarge(upscale, image, scale=2, tile=128, halo=halo, ladder=True) for image in images]
    assert len(compiled) <= 8 < len(set(sizes))
    for image, high in zip(images[::9], found[::9], strict=True):
        whole = np.asarray(upscale(image[None]))[0]
        kept = slice(None) if min(image.shape[:2]) >= least else slice(2 * halo, -2 * halo)
        np.testing.assert_allclose(high[kept, kept], whole[kept, kept], atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_integers_keep_their_depth(dtype, suffix, tmp_path):
    pixels = RANDOM.integers(0, 4096 if dtype == np.uint16 else 256, (13, 17)).astype(dtype)
    cv2.imwrite(str(tmp_path / f"in{suffix}"), pixels)
    predict(NEAREST, tmp_path / f"in{suffix}", tmp_path / "out")
    (path,) = (tmp_path / "out").glob("in.*")
    assert path.suffix == {".png": ".png", ".tif": ".tiff"}[suffix]
    found = read_image(path, max_pixels=10_000)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, pixels.repeat(2, 0).repeat(2, 1))


def scan_of(pixels, unit="grey"):
    return Scan("a", pixels, "a", unit=unit, file="a.png")


def test_without_a_map_sixteen_bits_fill_the_network_range_and_eight_keep_theirs():
    for pixels in (np.uint16([[100, 4000]]), np.float32([[-3e-9, 7e-9]]), np.float32([[-1e6, 1e6]])):
        np.testing.assert_allclose(prediction.seen(scan_of(pixels), NEAREST).low.ravel(), [-0.9, 0.9], rtol=1e-6)
    eight = np.uint8([[0, 51, 255]])
    shown = prediction.seen(scan_of(eight), NEAREST)
    np.testing.assert_allclose(shown.low.ravel(), [-1, -0.6, 1], rtol=1e-6)
    assert not shown.notes and not shown.rest.any()
    assert prediction.stored(np.float32([[[-2.0], [2.0]]]), shown, eight).tolist() == [[0, 255]]
    flat = np.full((2, 2), 7.5, np.float32)
    shown = prediction.seen(scan_of(flat), NEAREST)
    assert not shown.low.any()
    np.testing.assert_array_equal(prediction.stored(RANDOM.normal(size=(4, 4, 1)), shown, flat), np.full((4, 4), 7.5))


def mapped(low, high, unit="grey", dtype="uint8", **fields):
    return dataclasses.replace(SMALL, value_map=ValueMap(low, high, unit, (0.0, 0.0), dtype=dtype), **fields)


def test_a_scan_is_seen_as_those_it_was_trained_on_were(tmp_path):
    net = mapped(21.0, 88.0)
    pixels = RANDOM.integers(25, 85, (30, 26)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    predict(net, tmp_path / "a.png", tmp_path / "out")
    as_trained = net.value_map.from_unit(np.asarray(net.upscale(net.value_map.to_unit(pixels)[None, ..., None]))[0, ..., 0])
    found = read_image(tmp_path / "out" / "a.png", max_pixels=10_000)
    assert np.abs(found - np.clip(np.rint(as_trained), 0, 255)).max() <= 1
    assert np.abs(found - np.rint(np.asarray(SMALL.upscale(np.float32(pixels / 127.5 - 1)[None, ..., None]))[0, ..., 0])).max() > 1


def test_what_lies_outside_the_range_is_interpolated_and_told(tmp_path, capsys):
    net = dataclasses.replace(NEAREST, value_map=ValueMap(100.0, 150.0, "grey", (0.0, 0.0), dtype="uint8"))
    pixels = np.full((20, 20), 120, np.uint8)
    pixels[5:15, 5:15] = 250
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    predict(net, tmp_path / "a.png", tmp_path / "out")
    assert "25 % of the values lie outside the range the network was trained on" in capsys.readouterr().out
    found = read_image(tmp_path / "out" / "a.png", max_pixels=10_000)
    assert found.max() == 250 and found.min() == 120 and found[20, 20] == 250 and found[2, 2] == 120
    shown = prediction.seen(scan_of(pixels.astype(np.uint16)), net)
    assert "grey stored as uint16 is not what the network was trained on" in shown.notes[0] and np.abs(shown.low).max() <= 0.91
    shown = prediction.seen(scan_of(np.float32(pixels), "nm"), net)
    assert "nm stored as float32" in shown.notes[0]


def test_heights_are_seen_in_the_training_range_and_flat_noise_stays_small():
    noise = RANDOM.normal(0, 0.02, (40, 40)).astype(np.float32)
    net = mapped(-3.74, 3.74, "nm", "", levelling="plane")
    shown = prediction.seen(scan_of(noise, "nm"), net)
    assert not shown.notes and np.abs(shown.low).max() < 0.05 and np.abs(shown.rest).max() < 0.02


@pytest.mark.parametrize("steps", [1, 10])
def test_back_projection_brings_the_result_to_the_scan_tiled_or_not(steps, tmp_path):
    heights = scipy.ndimage.gaussian_filter(RANDOM.normal(0, 1, (90, 81)), 1.5).astype(np.float32)
    (tmp_path / "a.tif").write_bytes(encode_tiff(heights))
    found = {}
    for name, options in {"plain": {}, "whole": {"back_projections": steps}, "tiled": {"back_projections": steps, "tile": 88}}.items():
        if name == "tiled" and steps > 1:
            continue  # its halo leaves no tile smaller than the image
        predict(SMALL, tmp_path / "a.tif", tmp_path / name, **options)
        found[name] = read_image(tmp_path / name / "a.tiff", max_pixels=100_000)
    back = {name: np.asarray(resize.bicubic(one[None, ..., None], 90, 81))[0, ..., 0] for name, one in found.items()}
    errors = {name: np.abs(one - heights)[8:-8, 8:-8].mean() for name, one in back.items()}
    assert errors["whole"] < (0.5 if steps == 1 else 0.1) * errors["plain"]
    if "tiled" in found:
        np.testing.assert_allclose(found["tiled"], found["whole"], atol=1e-5)


def test_a_size_is_met_exactly_and_the_pixel_size_follows(tmp_path):
    heights = RANDOM.normal(5000, 1, (24, 16)).astype(np.float32)
    (tmp_path / "a.tif").write_bytes(encode_tiff(heights, (2.0, 2.0), "nm"))
    predict(NEAREST, tmp_path / "a.tif", tmp_path / "out", size=36)
    (channel,) = list_channels(tmp_path / "out" / "a.tiff", max_pixels=10_000)
    channel = to_nm(channel)
    assert channel.pixels.shape == (36, 24) and channel.nm_per_pixel == pytest.approx((24 * 2 / 36, 16 * 2 / 24), rel=1e-6)
    assert abs(channel.pixels.mean() - heights.mean()) < 0.05 and 0.3 < channel.pixels.std() < 1.2
    with pytest.raises(ConfigError, match="--size=-1"):
        predict(NEAREST, tmp_path / "a.tif", tmp_path / "other", size=-1)


def test_a_tilt_is_taken_away_and_given_back_finer(tmp_path):
    relief = RANDOM.normal(0, 0.1, (40, 31))
    y, x = np.mgrid[:40, :31]

    def tilt(y, x):
        return 5000 + 2.0 * y - 3.5 * x

    finer = tilt((np.arange(80)[:, None] + 0.5) / 2 - 0.5, (np.arange(62) + 0.5) / 2 - 0.5)
    for name, heights in {"flat": relief, "tilted": relief + tilt(y, x), "ramp": tilt(y, x)}.items():
        (tmp_path / f"{name}.tif").write_bytes(encode_tiff(heights.astype(np.float32), (1.0, 1.0), "nm"))
    predict(SMALL, tmp_path, tmp_path / "out")
    found = {name: read_image(tmp_path / "out" / f"{name}.tiff", max_pixels=10_000) for name in ("flat", "tilted", "ramp")}
    np.testing.assert_allclose(found["ramp"], finer, atol=2e-3)
    np.testing.assert_allclose(found["tilted"], found["flat"] + finer, atol=5e-3)
    assert found["flat"].std() > 0.02


@pytest.mark.parametrize("kind", ["", "gwy", "npy"])
def test_heights_keep_their_unit_and_the_pixel_size_is_divided(kind, tmp_path):
    heights = RANDOM.normal(20, 3, (12, 9)).astype(np.float32)
    (tmp_path / "scan.gwy").write_bytes(encode_gwy(heights, (0.5, 0.25)))
    predict(NEAREST, tmp_path / "scan.gwy", tmp_path / "out", format=kind)
    path = tmp_path / "out" / f"scan.{kind or 'tiff'}"
    (channel,) = list_channels(path, max_pixels=10_000)
    channel = to_nm(channel)
    assert channel.pixels.dtype == np.float32
    means = channel.pixels.reshape(12, 2, 9, 2).mean((1, 3))  # within a pixel the plane goes on
    np.testing.assert_allclose(means, heights, atol=1e-5)
    if kind != "npy":
        assert channel.unit == "nm" and channel.nm_per_pixel == pytest.approx((0.25, 0.125), rel=1e-8)


def test_colour_stays_colour_or_becomes_luma_and_grey_is_averaged(tmp_path, capsys):
    colour = RANDOM.integers(0, 256, (6, 5, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "colour.png"), colour[..., ::-1])
    grey = RANDOM.integers(0, 256, (6, 5)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    predict(NEAREST_RGB, tmp_path, tmp_path / "rgb")
    for name, pixels in (("colour", colour), ("grey", grey)):
        np.testing.assert_array_equal(read_image(tmp_path / "rgb" / f"{name}.png", max_pixels=1000), pixels.repeat(2, 0).repeat(2, 1))
    assert "grey is repeated for the three channels" in capsys.readouterr().out
    predict(NEAREST, tmp_path / "colour.png", tmp_path / "luma")
    luma = np.rint(colour @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    np.testing.assert_array_equal(read_image(tmp_path / "luma" / "colour.png", max_pixels=1000), luma.repeat(2, 0).repeat(2, 1))
    assert "colour is reduced to luma" in capsys.readouterr().out


def test_a_mixed_folder_is_enlarged_and_a_resumed_run_rewrites_nothing(tmp_path):
    sizes = [(20 + i, 31 - i) for i in range(4)] + [(90, 75)]
    for i, size in enumerate(sizes):
        cv2.imwrite(str(tmp_path / f"{i}.png"), RANDOM.integers(0, 256, size).astype(np.uint8))
    predict(SMALL, tmp_path, tmp_path / "out", tile=48)
    paths = sorted((tmp_path / "out").glob("*.png"))
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}
    assert [cv2.imread(str(path), -1).shape for path in paths] == [(2 * h, 2 * w) for h, w in sizes]
    stored = read_image(tmp_path / "4.png", max_pixels=10_000)
    whole = np.asarray(SMALL.upscale((stored / 127.5 - 1).astype(np.float32)[None, ..., None]))[0, ..., 0]
    expected = np.clip(np.rint((whole + 1) * 127.5), 0, 255)
    assert np.abs(read_image(paths[4], max_pixels=100_000) - expected).max() <= 1  # a half may round either way
    paths[2].unlink()
    outcome = predict(SMALL, tmp_path, tmp_path / "out", tile=48)
    assert (outcome.written, outcome.there) == (1, 4)
    assert {path: path.read_bytes() for path in paths} == {path: content for path, (_, content) in before.items()}
    assert all(path.stat().st_mtime_ns == before[path][0] for path in paths if path != paths[2])


def test_smoothing_is_scipys_on_the_whole_output_tiled_or_not(tmp_path):
    heights = RANDOM.normal(0, 1, (80, 61)).astype(np.float32)
    (tmp_path / "a.tif").write_bytes(encode_tiff(heights))
    for name, options in {"sharp": {}, "whole": {"smoothing": 1.7}, "tiled": {"smoothing": 1.7, "tile": 52}}.items():
        predict(SMALL, tmp_path / "a.tif", tmp_path / name, **options)
    sharp, whole, tiled = (read_image(tmp_path / name / "a.tiff", max_pixels=100_000) for name in ("sharp", "whole", "tiled"))
    np.testing.assert_allclose(whole, scipy.ndimage.gaussian_filter(sharp, 1.7), atol=1e-5)
    np.testing.assert_allclose(tiled, whole, atol=1e-5)
    assert np.abs(whole - sharp).max() > 0.01


def test_what_cannot_be_written_or_computed_is_told_and_the_rest_goes_on(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((6, 5), np.uint8))
    (tmp_path / "b.tif").write_bytes(encode_tiff(np.ones((6, 5), np.float32), None, "nm"))
    with pytest.raises(RunError, match=r"1 of 2 files .*\n.*b.tif: holds floating-point values, which a PNG cannot"):
        predict(NEAREST, tmp_path, tmp_path / "png", format="png")
    with pytest.raises(RunError, match=r"1 of 2 files .*\n.*a.png: is in grey, and a .gwy file"):
        predict(NEAREST, tmp_path, tmp_path / "gwy", format="gwy")
    broken = Network(lambda low: nearest(low) * np.nan, 2, 1, 0, 1)
    with pytest.raises(RunError, match="became NaN or infinite"):
        predict(broken, tmp_path / "a.png", tmp_path / "nan")
    assert not list((tmp_path / "nan").glob("*.png"))
    assert [path.name for path in sorted((tmp_path / "png").iterdir())] == ["a.png", "prediction.json"]
    assert json.loads((tmp_path / "png" / "prediction.json").read_text()) == {"step": 1, "format": "png"}
    with pytest.raises(DataError, match="no such file or folder"):
        predict(NEAREST, tmp_path / "none", tmp_path / "out")
    with pytest.raises(ConfigError, match=f"--tile=8: {2 * SMALL.halo + 1} pixels at least"):
        predict(SMALL, tmp_path, tmp_path / "out", tile=8)
