"""Crops of stacks: each plane is the crop of that plane as an image, its mask too, without free rotation bit for bit."""

import jax
import numpy as np
import pytest

import input_pipeline
from configs import unet3d_emulsion
from microscopy import normalisation, preparation
from microscopy.scan import Scan

PLANES = 5


def stack(name, seed, height, width):
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 255, (height, width, PLANES)).astype(np.uint8)
    return Scan(name, pixels, name, mask=random.integers(0, 3, pixels.shape).astype(np.int32))


def made(scans, planes, rotation, window=0, side=24):
    c = unet3d_emulsion.get_config("tiny").unlock()
    c.data.update({"planes": planes, "rotation": rotation, "height": side, "width": side, "crop": 24, "window": window, "window_steps": 2})
    c.train.update({"batch_size": 6})
    c.eval.update({"num_images": 6})
    values = normalisation.ValueMap(0.0, 255.0, "grey", (0.0, 0.0))
    prepared = preparation.Prepared({"train": scans, "held_out": scans[:1], "test": []}, values, (24, 24), [], {}, (), (side, side))
    return input_pipeline.make_data(c, prepared)


def plane_of(scan, plane):
    return Scan(scan.id, scan.pixels[..., plane].copy(), scan.sha256, mask=scan.mask[..., plane].copy())


@pytest.mark.parametrize(("rotation", "side"), [("free", 24), ("quarter", 24), ("quarter", 12)])
def test_all_planes_are_cut_turned_mirrored_and_reduced_alike(rotation, side):
    scans = [stack("a", 0, 50, 60), stack("b", 1, 64, 40)]
    data = made(scans, PLANES, rotation, side=side)
    batch = jax.jit(data.sample)(data.arrays, jax.random.key(3))
    assert batch["image"].shape == (6, PLANES, side, side, 1) and batch["image"].dtype == np.float32
    assert batch["mask"].shape == (6, PLANES, side, side) and batch["mask"].dtype == np.int32
    for plane in range(PLANES):
        alone = made([plane_of(scan, plane) for scan in scans], 0, rotation, side=side)
        wanted = jax.jit(alone.sample)(alone.arrays, jax.random.key(3))
        # At free angles two compiled programs may round a coordinate differently; these scans are noise, steep everywhere.
        np.testing.assert_allclose(batch["image"][:, plane], wanted["image"], rtol=0, atol=1e-4 if rotation == "free" else 0)
        np.testing.assert_array_equal(batch["mask"][:, plane], wanted["mask"])
    held = next(iter(data.batches("held_out")))
    assert held["image"].shape == (6, PLANES, side, side, 1) and held["valid"].all()


def test_a_window_of_stacks_keeps_its_shapes():
    scans = [stack(name, seed, 40 + 8 * seed, 50) for seed, name in enumerate("abc")]
    data = made(scans, PLANES, "free", window=2)
    later = data.refresh(data.arrays, 2)
    assert jax.tree.map(lambda x: x.shape, later) == jax.tree.map(lambda x: x.shape, data.arrays)
    assert int(later["window"]) == 1 and data.sample(later, jax.random.key(0))["mask"].shape == (6, PLANES, 24, 24)
