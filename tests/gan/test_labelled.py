"""Labels that a generator draws: their scores on pairs whose truth is known, and a run from training to numbered label files."""

import json

import cv2
import numpy as np
import pytest

from configs import dcgan32
from gan import dcgan, labelled
from metrics import overlap
from microscopy import label_field, simulator
from microscopy.folder import read_folder
from training import loop
from training.generation import Request
from training.signals import Stop


@pytest.fixture(scope="module")
def pairs():
    """(images (n, 72, 72, 2) in [-1, 1] with their label field, masks) of bright simulated particles, reduced by area."""
    settings = simulator.SimulatorSettings(
        size_px=(216, 216), nm_per_pixel=0.4, substrate="flat", tip_radius=1.0, tilt_degrees=0.0, coverage=0.15
    )
    images, masks = [], []
    for seed in range(6):
        scan = simulator.simulate_scan(settings, seed)
        both = np.dstack([np.clip(scan.height / 4 - 0.8, -1, 1), label_field.field(scan.mask, 12.0)])
        images.append(cv2.resize(both.astype(np.float32), (72, 72), interpolation=cv2.INTER_AREA))
        masks.append(scan.mask[1::3, 1::3])
    return np.stack(images), np.stack(masks)


def test_true_fields_get_the_scores_of_true_masks(pairs):
    scalars, rows = labelled.scores(pairs[0], *pairs)
    assert scalars["labels/f1_field"] > 0.98
    assert scalars["labels/f1_generated"] == pytest.approx(scalars["labels/f1_real"], abs=0.05) and scalars["labels/f1_real"] > 0.6
    assert scalars["labels/shift_generated"] < 0.5 and scalars["labels/shift_real"] < 0.5
    assert scalars["labels/count_generated"] == pytest.approx(scalars["labels/count_real"], rel=0.05)
    assert scalars["labels/coverage_generated"] == pytest.approx(np.mean(pairs[1] > 0), abs=0.01)
    assert [row["images"] for row in rows] == ["generated", "real"]


def test_labels_that_are_moved_or_of_other_images_are_told(pairs):
    images, masks = pairs
    moved, exchanged = images.copy(), images.copy()
    moved[..., 1] = np.roll(images[..., 1], (5, -4), (1, 2))
    exchanged[..., 1] = np.roll(images[..., 1], 1, 0)
    plain, _ = labelled.scores(images, images, masks)
    for wrong in (moved, exchanged):
        found, _ = labelled.scores(wrong, images, masks)
        assert found["labels/f1_generated"] < 0.5 * plain["labels/f1_generated"]
        assert found["labels/f1_real"] == plain["labels/f1_real"]
    assert labelled.scores(moved, images, masks)[0]["labels/shift_generated"] == pytest.approx(np.hypot(5, 4), abs=0.7)


def test_dark_particles_are_detected_like_bright_ones(pairs):
    dark = pairs[0] * np.array([-1, 1], np.float32)
    bright, _ = labelled.scores(pairs[0], *pairs)
    assert labelled.scores(dark, dark, pairs[1])[0] == pytest.approx(bright, abs=1e-6)


def test_f1_counts_objects_of_all_pairs():
    one = np.zeros((8, 8), np.int32)
    one[:3, :3], one[5:, 5:] = 1, 2
    assert labelled.f1_score([(one, one), (one, np.where(one == 1, 1, 0))]) == pytest.approx(2 * 3 / (2 * 3 + 1))
    assert labelled.f1_score([(one * 0, one * 0)]) == 1.0


def test_an_enlarged_field_has_the_instances_of_the_large_one():
    y, x = np.mgrid[:288, :288]
    places = [(60, 60, 30), (60, 121, 31), (180, 100, 42), (200, 230, 25)]
    mask = np.zeros((288, 288), np.int32)
    for number, (cy, cx, radius) in enumerate(places, 1):
        mask[np.hypot(y - cy, x - cx) < radius] = number
    small = cv2.resize(label_field.field(mask), (96, 96), interpolation=cv2.INTER_AREA)
    found = labelled.upscaled_instances(small, (288, 288), 50)
    assert found.shape == (288, 288) and found.dtype == np.int32
    true, extra, missed, iou = overlap.object_counts(found, mask)
    assert (true, extra, missed) == (4, 0, 0) and iou / true > 0.96
    level = cv2.resize(small, (288, 288), interpolation=cv2.INTER_LINEAR) > 0
    assert np.mean(level == (found > 0)) > 0.999


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(workdir, config) of a labelled DCGAN of a few steps."""
    workdir, config = tmp_path_factory.mktemp("labelled"), dcgan32.get_config("tiny").unlock()
    config.data.label_field = "distance"
    config.train.update({"num_steps": 4, "save_every": 4, "eval_every": 4, "preview_every": 4, "augment": ("colour", "translation")})
    config.train.ema_decay = 0.9  # as in the test of resuming, so that both compile once
    config.eval.num_images = 8
    loop.train(config.lock(), workdir, Stop())
    return workdir, config


def test_a_run_trains_on_two_channels_and_scores_its_labels(run):
    found = json.loads((run[0] / "evaluation.json").read_text())
    assert {f"labels/{name}_{of}" for name in ("f1", "shift", "count", "coverage", "diameter") for of in ("generated", "real")} <= set(
        found["scalars"]
    )
    assert found["scalars"]["labels/shift_real"] < 0.5 and found["scalars"]["labels/f1_field"] > 0.9
    assert "masked crops of held-out scans" in found["protocol"] and any(name.startswith("Labels") for name in found["tables"])
    sample = cv2.imread(str(run[0] / "samples" / "step_00000004.png"))
    assert sample.shape == (6 * 194 - 2, 6 * 98 - 2, 3)  # 36 tiles: the outlined image above its field
    assert cv2.imread(str(run[0] / "training_crops" / "step_00000000.png")).shape == (8 * 194 - 2, 8 * 98 - 2, 3)


def test_labels_are_written_beside_their_images_and_made_again_by_index(run, tmp_path):
    workdir, config = run
    for num in (2, 66):  # the second request adds to the first
        dcgan.generate(config, workdir, Request(num, 3, str(tmp_path), "npy"))
    chunk = dcgan.make_chunks(config, workdir, "last", 3)
    for number in (1, 0):
        images, fields = chunk(number)
        assert images.shape == (64, 32, 32, 1) and fields.shape == (64, 32, 32)
        for index in range(64 * number, min(66, 64 * number + 64)):
            name, field = f"generated_{index:06d}", fields[index % 64]
            np.testing.assert_array_equal(np.load(tmp_path / "fields" / f"{name}.npy"), field)
            stored = cv2.imread(str(tmp_path / "labels" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
            assert stored.dtype == np.uint16
            np.testing.assert_array_equal(stored, label_field.instances(field))
    assert len(list((tmp_path / "labels").iterdir())) == len(list(tmp_path.glob("*.npy"))) == 66
    assert json.loads((tmp_path / "generation.json").read_text())["label_field"] == "distance"


def test_generated_pictures_and_labels_are_scans_with_masks(run, tmp_path):
    dcgan.generate(run[1], run[0], Request(3, 0, str(tmp_path)))
    assert not (tmp_path / "fields").exists()
    scans, refused = read_folder(tmp_path, max_pixels=10_000, masks=tmp_path / "labels")
    assert [scan.id for scan in scans] == [f"generated_{i:06d}" for i in range(3)] and not refused
    assert all(scan.label is None and scan.mask.shape == (32, 32) for scan in scans)


def test_images_without_a_label_field_are_passed_on_whole(run):
    plain = dcgan32.get_config("tiny")
    images = np.zeros((2, 4, 4, 1))
    assert labelled.split(images, plain) == (images, None)
    image, field = labelled.split(np.zeros((2, 4, 4, 2)), run[1])
    assert image.shape == (2, 4, 4, 1) and field.shape == (2, 4, 4)
