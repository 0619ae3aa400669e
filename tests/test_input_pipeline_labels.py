"""The label field as last channel: the same geometry as the image, masks beside held-out crops, pictures of both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import input_pipeline
from configs import dcgan
from microscopy import label_field, normalisation, preparation
from microscopy.scan import Scan

SHAPE = (90, 110)


def setup(channels=1, **changes):
    config = dcgan.config("test", 32, 4, "tiny").unlock()
    config.data.update({"held_out": 0.0, "test": 0.0, "channels": channels, "label_field": "distance", "label_reach": 7.0, **changes})
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    scans = []
    for index in range(3):
        mask = (np.hypot(y - 40, x - 30) < 12 + index) + 2 * (np.hypot(y - 40, x - 60) < 15).astype(np.int32)
        pixels = np.random.default_rng(index).normal(size=(*SHAPE, channels)).astype(np.float32) + mask[..., None]
        scans.append(Scan(f"s{index}", pixels if channels > 1 else pixels[..., 0], f"sha{index}", mask=mask.astype(np.int32)))
    splits = {"train": scans[:2], "held_out": scans[2:], "test": []}
    prepared = preparation.Prepared(splits, normalisation.fit(scans), preparation.crop_size(scans, config.data), [], {})
    return config, prepared


@pytest.mark.parametrize("channels", [1, 3])
def test_whole_pixel_crops_carry_the_field_of_their_pixels(channels):
    config, prepared = setup(channels, crop=32, rotation="none", mirror=False)
    data = input_pipeline.make_data(config, prepared)
    place = input_pipeline.draw(jax.random.key(1), data.arrays, 8, prepared.crop, "none", False)
    batch = input_pipeline.crops(data.arrays, place, prepared.crop, 32, 32)
    assert batch["image"].shape == (8, 32, 32, channels + 1) and "mask" not in batch
    for index in range(8):
        scan = prepared.splits["train"][int(place["scan"][index])]
        top, left = (int(place[axis][index] - 15.5) for axis in ("y", "x"))
        part = (slice(top, top + 32), slice(left, left + 32))
        np.testing.assert_array_equal(batch["image"][index, ..., -1], label_field.field(scan.mask, 7.0)[part])
        np.testing.assert_array_equal(
            batch["image"][index, ..., :channels].reshape(scan.pixels[part].shape), prepared.value_map.to_unit(scan.pixels)[part]
        )


def test_turned_and_reduced_crops_of_held_out_scans_have_masks_where_the_field_is_above_zero():
    config, prepared = setup(crop=60)
    config.eval.num_images = 16
    batches = list(input_pipeline.make_data(config, prepared).batches("held_out"))
    image, mask = (np.concatenate([batch[name] for batch in batches]) for name in ("image", "mask"))
    assert image.shape == (16, 32, 32, 2) and mask.shape == (16, 32, 32)
    assert np.mean((image[..., 1] > 0) == (mask > 0)) > 0.97
    inside = np.abs(image[..., 1]) > 0.25
    assert np.array_equal((image[..., 1] > 0)[inside], (mask > 0)[inside])


def test_without_a_label_field_nothing_changes():
    config, prepared = setup()
    config.data.label_field = "none"
    arrays = jax.tree.map(jnp.asarray, input_pipeline.resident(prepared.splits["train"], prepared, config.data))
    del config.data["label_field"], config.data["label_reach"]  # a config from before there was one
    older = input_pipeline.resident(prepared.splits["train"], prepared, config.data)
    assert arrays.keys() == older.keys() and arrays["pixels"].shape[1] == 1 and "mask" not in arrays
    jax.tree.map(np.testing.assert_array_equal, arrays, older)
