"""Crops against NumPy slices (bit for bit) and OpenCV's warpAffine; placements; windows; splits."""

import dataclasses

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import input_pipeline
from configs import dcgan
from microscopy import fields, normalisation, preparation
from microscopy.scan import DataError, FieldError, Scan


def smooth_scan(name, height, width, seed, channels=None):
    shape = (height, width) if channels is None else (height, width, channels)
    noise = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return Scan(
        name, cv2.GaussianBlur(noise, (0, 0), 4), f"sha{name}", mask=np.arange(height * width, dtype=np.int32).reshape(height, width)
    )


def setup(scans, size, crop, rotation="free", **changes):
    config = dcgan.config("test", size, 4, "tiny").unlock()
    config.data.update({"crop": crop, "rotation": rotation, "held_out": 0.0, "test": 0.0, "use_masks": True, **changes})
    crop = preparation.crop_size(scans, config.data)
    splits, names = {"train": scans, "held_out": [], "test": []}, preparation.class_names(scans)
    prepared = preparation.Prepared(splits, normalisation.fit(scans), crop, [], {}, names)
    arrays = jax.tree.map(jnp.asarray, input_pipeline.resident(scans, prepared, config.data))
    return config, prepared, arrays


def place(scan, y, x, angle=0.0, quarter=0, flip=False):
    return {
        "scan": jnp.array([scan]),
        "y": jnp.array([y], jnp.float32),
        "x": jnp.array([x], jnp.float32),
        "angle": jnp.array([angle], jnp.float32),
        "quarter": jnp.array([quarter]),
        "flip": jnp.array([flip]),
    }


@pytest.mark.parametrize("quarter", range(4))
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 48)])
def test_identity_quarter_turns_and_mirrors_are_bit_exact(quarter, flip, height, width):
    scans = [smooth_scan("a", 70, 90, 0), smooth_scan("b", 64, 64, 1)]
    config, prepared, arrays = setup(scans, 32, 32, "none")
    tall, wide = (width, height) if quarter % 2 else (height, width)
    top, left = 5, 11
    batch = input_pipeline.crops(
        arrays, place(1, top + (tall - 1) / 2, left + (wide - 1) / 2, 0.0, quarter, flip), (height, width), height, width
    )
    wanted = prepared.value_map.to_unit(scans[1].pixels)[top : top + tall, left : left + wide]
    mask = scans[1].mask[top : top + tall, left : left + wide]
    found = [k for k in range(4) if np.array_equal(oriented(wanted, k, flip), batch["image"][0, ..., 0])]
    assert found and (0 in found) == (quarter == 0)
    assert any(np.array_equal(oriented(mask, k, flip), batch["mask"][0]) for k in found)


def oriented(image, k, flip):
    turned = np.rot90(image, k)
    return turned[:, ::-1] if flip else turned


@pytest.mark.parametrize("quarter", range(4))
def test_turns_and_mirrors_of_a_reduced_crop_are_the_same_samples(quarter):
    scans = [smooth_scan("a", 200, 200, 0)]
    _, prepared, arrays = setup(scans, 32, 100)
    plain = input_pipeline.crops(arrays, place(0, 99.5, 80.25), prepared.crop, 32, 32)
    turned = input_pipeline.crops(arrays, place(0, 99.5, 80.25, 0.0, quarter, True), prepared.crop, 32, 32)
    assert any(np.array_equal(oriented(plain["image"][0], k, True), turned["image"][0]) for k in range(4))
    assert any(np.array_equal(oriented(plain["mask"][0], k, True), turned["mask"][0]) for k in range(4))


@pytest.mark.parametrize("degrees", [-44, -10, 3, 31, 45])
def test_free_angles_agree_with_warp_affine(degrees):
    scans = [smooth_scan("a", 150, 170, 0)]
    _, prepared, arrays = setup(scans, 64, 64)
    angle, y, x = np.deg2rad(degrees), 70.3, 88.9
    got = np.asarray(input_pipeline.crops(arrays, place(0, y, x, angle), (64, 64), 64, 64)["image"])[0, ..., 0]
    cos, sin, half = np.cos(angle), np.sin(angle), 31.5
    matrix = np.array([[cos, -sin, x - cos * half + sin * half], [sin, cos, y - sin * half - cos * half]])
    image = prepared.value_map.to_unit(scans[0].pixels)
    wanted = cv2.warpAffine(image, matrix, (64, 64), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    assert np.abs(got - wanted).max() < 0.02  # OpenCV rounds positions to 1/32 px


def test_a_reduced_crop_is_near_the_area_average_of_the_warped_crop():
    scans = [smooth_scan("a", 300, 300, 0)]
    _, prepared, arrays = setup(scans, 64, 170)
    angle = np.deg2rad(20)
    got = np.asarray(input_pipeline.crops(arrays, place(0, 150.0, 149.0, angle), prepared.crop, 64, 64)["image"])[0, ..., 0]
    cos, sin, half = np.cos(angle), np.sin(angle), (170 - 1) / 2
    matrix = np.array([[cos, -sin, 149 - cos * half + sin * half], [sin, cos, 150 - sin * half - cos * half]])
    full = cv2.warpAffine(prepared.value_map.to_unit(scans[0].pixels), matrix, (170, 170), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    wanted = cv2.resize(full, (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(got - wanted).max() < 0.1 and np.abs(got - wanted).mean() < 0.012


@pytest.mark.parametrize(("rotation", "longer", "width"), [("none", 112, 32), ("quarter", 43, 32), ("free", 75, 32), ("none", 45, 20)])
def test_white_noise_is_as_strong_at_every_pixel_of_reduced_crops(rotation, longer, width):
    noise = np.random.default_rng(0).normal(size=(12, 150, 161)).astype(np.float32)
    scans = [Scan(str(i), image, str(i)) for i, image in enumerate(noise)]
    config, prepared, arrays = setup(scans, 32, longer, rotation, width=width, use_masks=False)
    sample = jax.jit(input_pipeline.make_data(config, prepared).sample, static_argnums=2)
    images = np.concatenate([np.asarray(sample(arrays, jax.random.key(seed), 500)["image"])[..., 0] for seed in range(16)])
    variance = images.var(axis=0)
    scan_variance = prepared.value_map.to_unit(noise).var()
    assert 0.03 * scan_variance < variance.mean() < 0.6 * scan_variance  # really averaged
    for axis in (0, 1):
        for period in (2, 3, 4):
            phases = [variance.take(range(first, variance.shape[axis], period), axis).mean() for first in range(period)]
            assert max(phases) / min(phases) < 1.05, (axis, period)


@pytest.mark.parametrize("rotation", ["none", "quarter"])
def test_all_pixels_of_a_reduced_crop_lie_at_one_place_between_grid_points(rotation):
    stripes = np.where(np.arange(251) // 2 % 2, 1.0, -1.0).astype(np.float32)  # in the copy the columns alternate
    _, prepared, arrays = setup([Scan("a", np.broadcast_to(stripes, (201, 251)).copy(), "a")], 96, 192, rotation, use_masks=False)
    for left, contrast in ((0, 1.0), (59, 0.0), (16, 1.0), (7, 0.0)):  # halfway between two columns they cancel
        image = np.asarray(input_pipeline.crops(arrays, place(0, 100.0, left + 95.5), prepared.crop, 96, 96)["image"])
        np.testing.assert_allclose(np.abs(image), contrast, atol=1e-4)


@pytest.mark.parametrize("rotation", fields.ROTATIONS)
def test_every_placement_lies_in_its_scan_with_no_empty_corner(rotation):
    scans = [smooth_scan(str(i), 100 + 7 * i, 140, i) for i in range(3)]
    config, prepared, arrays = setup(scans, 32, 0, rotation)
    drawn = input_pipeline.draw(jax.random.key(0), arrays, 2000, prepared.crop, rotation, True)
    scan = np.asarray(drawn["scan"])
    assert set(scan) == {0, 1, 2} and set(np.asarray(drawn["quarter"])) == (set(range(4)) if rotation != "none" else {0})
    assert 0.4 < np.mean(drawn["flip"]) < 0.6
    half = np.array([[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]]) * np.array(prepared.crop)
    cos, sin = np.cos(drawn["angle"])[:, None], np.sin(drawn["angle"])[:, None]
    y = np.asarray(drawn["y"])[:, None] + cos * half[:, 0] + sin * half[:, 1]
    x = np.asarray(drawn["x"])[:, None] + cos * half[:, 1] - sin * half[:, 0]
    size = np.asarray(arrays["size"])[scan]
    assert y.min() >= -0.5 - 1e-3 and x.min() >= -0.5 - 1e-3
    assert np.all(y.max(1) <= size[:, 0] - 0.5 + 1e-3) and np.all(x.max(1) <= size[:, 1] - 0.5 + 1e-3)
    for axis, corner in enumerate((y, x)):  # all of the scan is reached
        assert corner.min() < 3 and (size[:, axis] - corner.max(1)).min() < 3
    if rotation != "free":
        np.testing.assert_array_equal(np.asarray(y)[:, 0] % 1, 0.5)


def test_default_crop_and_scans_too_small_are_named():
    scans = [smooth_scan("big", 512, 600, 0), smooth_scan("little", 90, 300, 1)]
    data = dcgan.config("test", 32, 4, "tiny").unlock().data
    assert preparation.crop_size(scans[:1], data) == (256, 256)
    assert preparation.crop_size(scans, data) == (63, 63)
    data.width = 80
    assert preparation.crop_size(scans, data) == (24, 60)  # 63 is no multiple of 5, pixels stay square
    data.width, data.crop = 32, 64
    with pytest.raises(FieldError, match=r"config.data.crop=64: .* 1 of 2 .*little \(300 x 90 px\)"):
        preparation.crop_size(scans, data)
    data.rotation, data.crop = "none", 90
    assert preparation.crop_size(scans, data) == (90, 90)
    data.update({"crop": 0, "width": 96})
    with pytest.raises(DataError, match="config.data.crop=0") as error:  # nobody asked for a crop: the scan is at fault
        preparation.crop_size([smooth_scan("line", 1, 300, 0)], data)
    assert not isinstance(error.value, FieldError)


def test_scans_without_a_class_among_labelled_ones_have_the_label_minus_one():
    scans = [
        Scan(str(i), np.full((40, 40), 40 * i, np.uint8), str(i), label=label) for i, label in enumerate(("wire", None, "dot", "wire"))
    ]
    config, prepared, arrays = setup(scans, 16, 20, use_masks=False)
    assert prepared.classes == ("dot", "wire") and arrays["label"].tolist() == [1, -1, 0, 1]
    assert list(preparation.classes(prepared).items()) == [("dot", 1), ("wire", 2), ("(no class)", 1)]
    _, prepared, arrays = setup([smooth_scan("a", 40, 40, 0)], 16, 20)
    assert prepared.classes == () and preparation.classes(prepared) == {} and "label" not in arrays


def test_colour_and_labels():
    scans = [Scan(str(i), np.full((40, 40, 3), 40 * i, np.uint8), str(i), label="ba"[i % 2]) for i in range(4)]
    _, _, arrays = setup(scans, 16, 20, channels=3, use_masks=False)
    for i in range(4):
        batch = input_pipeline.crops(arrays, place(i, 19.5, 19.5), (20, 20), 16, 16)
        assert batch["image"].shape == (1, 16, 16, 3) and batch["label"].tolist() == [1 - i % 2]
        np.testing.assert_allclose(batch["image"], i * 2 / 3 - 1, atol=1e-5)


def test_batches_are_fixed_padded_and_marked():
    scans = [smooth_scan(str(i), 60, 60, i) for i in range(3)]
    config, prepared, _ = setup(scans, 16, 30)
    config.eval.num_images = 11
    data = input_pipeline.make_data(config, prepared)
    first, again = (list(data.batches("train")) for _ in range(2))
    assert [b["valid"].tolist() for b in first] == [[True] * 8, [True] * 3 + [False] * 5]
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one["image"], two["image"])
    assert list(data.batches("held_out")) == []


def test_windows_cover_the_set_are_a_function_of_the_step_and_keep_shapes():
    scans = [smooth_scan(str(i), 60 + 5 * i, 70, i) for i in range(5)]
    config, prepared, _ = setup(scans, 16, 30)
    config.data.update({"window": 2, "window_steps": 4, "use_masks": False})
    data = input_pipeline.make_data(config, prepared)
    sizes, arrays, shapes = [], data.arrays, jax.tree.map(jnp.shape, data.arrays)
    for step in range(0, 12):
        before, arrays = arrays, data.refresh(arrays, step)
        assert (arrays is before) == (step % 4 != 0 or step == 0)
        assert jax.tree.map(jnp.shape, arrays) == shapes
        sizes += np.asarray(arrays["size"])[:, 0].tolist() if step % 4 == 0 else []
    assert sorted(set(sizes)) == [60, 65, 70, 75, 80]  # three windows of two: all five scans, one of them twice
    jax.tree.map(np.testing.assert_array_equal, data.refresh(None, 11), arrays)
    whole = data.sample(arrays, jax.random.key(0))
    assert whole["image"].shape == (8, 16, 16, 1) and np.isfinite(whole["image"]).all()


@pytest.mark.parametrize("rotation", fields.ROTATIONS)
def test_a_window_holds_what_its_largest_scans_need_and_masks_stay_with_them(rotation):
    scans = [smooth_scan(str(i), 60 + 5 * i, 75, i) for i in range(5)]
    config, prepared, whole = setup(scans, 16, 40, rotation)
    config.data.update({"window": 2, "window_steps": 4})
    data = input_pipeline.make_data(config, prepared)
    counts = np.asarray(whole["height"]) * np.asarray(whole["width"])
    assert data.arrays["pixels"].shape == (sum(sorted(counts)[-2:]), 1) and data.arrays["mask"].shape == ((75 + 80) * 75,)
    for step in (0, 4, 8):
        arrays = data.refresh(None, step)
        for slot, height in enumerate(np.asarray(arrays["size"])[:, 0]):
            here, there = (
                input_pipeline.crops(a, place(i, 30, 40), (40, 40), 16, 16) for a, i in ((arrays, slot), (whole, (height - 60) // 5))
            )
            jax.tree.map(np.testing.assert_array_equal, here, there)


def test_a_windowed_set_is_scored_on_a_fixed_subset_of_a_window(monkeypatch):
    scans = [Scan(str(i), np.full((60, 60), i, np.uint8), str(i)) for i in range(40)]
    config, prepared, _ = setup(scans, 16, 30, use_masks=False)
    config.data.update({"window": 3, "window_steps": 4})
    config.eval.num_images = 64
    seen, resident = [], input_pipeline.resident
    monkeypatch.setattr(
        input_pipeline, "resident", lambda scans, *rest, **named: seen.append(len(scans)) or resident(scans, *rest, **named)
    )
    data = input_pipeline.make_data(config, prepared)
    levels = [levels_of(data) for _ in range(2)]
    assert len(levels[0]) == 3 and set(seen) == {3}
    assert levels[0] == levels[1]
    config.seed = 1
    assert levels_of(input_pipeline.make_data(config, prepared)) != levels[0]


def levels_of(data):
    return {round((value + 1) * 19.5) for batch in data.batches("train") for value in np.unique(batch["image"]).tolist()}


def test_window_steps_that_a_call_steps_over_are_refused():
    config, _, _ = setup([smooth_scan(str(i), 60, 60, i) for i in range(3)], 16, 30)
    config.data.update({"window": 2, "window_steps": 5})
    with pytest.raises(FieldError, match="config.data.window_steps=5: no multiple of config.train.steps_per_call=2"):
        fields.check(config)


def test_split_is_by_group_seeded_and_disjoint():
    scans = [Scan(f"{i:02d}", np.zeros((4, 4), np.uint8), str(i), group=f"patient{i // 2}") for i in range(20)]
    parts = normalisation.split(scans, 0, 0.2, 0.1)
    assert {name: len(part) for name, part in parts.items()} == {"train": 14, "held_out": 4, "test": 2}
    groups = [{scan.group for scan in part} for part in parts.values()]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert normalisation.split(scans, 0, 0.2, 0.1) == parts != normalisation.split(scans, 1, 0.2, 0.1)
    assert len(normalisation.split(scans[:2], 0, 0.1, 0.1)["train"]) == 2
    with pytest.raises(FieldError, match="config.data.held_out=0.6 and test=0.5 leave none of 10 groups of the 20 scans"):
        normalisation.split(scans, 0, 0.6, 0.5)


def test_value_map_is_the_percentiles_of_training_scans_and_inverts():
    values = np.arange(10_001, dtype=np.float32).reshape(73, 137)
    fitted = normalisation.fit([Scan("a", values, "a", unit="nm")])
    assert (fitted.low, fitted.high, fitted.unit) == (pytest.approx(10.0), pytest.approx(9990.0), "nm")
    assert fitted.clipped == (pytest.approx(0.001, abs=2e-4), pytest.approx(0.001, abs=2e-4))
    mapped = fitted.to_unit(values)
    assert mapped.min() == -1 and mapped.max() == 1 and mapped.dtype == np.float32
    inside = (values > 10) & (values < 9990)
    np.testing.assert_allclose(fitted.from_unit(mapped)[inside], values[inside], rtol=1e-6, atol=2e-3)
    with pytest.raises(DataError, match="nothing to learn"):
        normalisation.fit([Scan("a", np.ones((4, 4), np.uint8), "a")])
    with pytest.raises(DataError, match="mix"):
        normalisation.fit([Scan("a", values, "a"), Scan("b", values, "b", unit="nm")])


def test_balanced_classes_are_equally_likely_and_scans_within_them():
    """Classes of 6, 1 and 2 scans, and one scan without: a quarter each, shared by the scans of a class; the default stays as it was."""
    labels = ["a"] * 6 + ["b"] + ["c"] * 2 + [None]
    scans = [dataclasses.replace(smooth_scan(str(i), 20, 20, i), label=label) for i, label in enumerate(labels)]
    _, prepared, plain = setup(scans, 16, 16, "none")
    _, _, balanced = setup(scans, 16, 16, "none", class_balanced=True)
    assert set(balanced) - set(plain) == {"cumulative"}
    key, num = jax.random.key(0), 40_000
    drawn = input_pipeline.draw(key, balanced, num, (16, 16), "none", False)["scan"]
    counts = np.bincount(drawn, minlength=10)
    wanted = np.array([1 / 24] * 6 + [1 / 4] + [1 / 8] * 2 + [1 / 4]) * num
    assert drawn.dtype == jnp.int32 and ((counts - wanted) ** 2 / wanted).sum() < 27.9  # chi-squared, 9 degrees of freedom, p = 0.001
    usual = input_pipeline.draw(key, plain, num, (16, 16), "none", False)["scan"]
    np.testing.assert_array_equal(usual, jax.random.randint(jax.random.split(key, 6)[0], (num,), 0, 10))
