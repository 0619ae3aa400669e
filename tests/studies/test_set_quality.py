"""Distances of each class to its test scans against the scores themselves, copies that are found, and what is kept."""

import numpy as np
import pytest

from configs import augmentation_gain_cytology
from gan import scores
from metrics import fid, kid
from studies import image_sets, set_quality
from studies.image_sets import Images

CLASSES = ("flat", "round")


def noise(counts, seed, mean=128):
    """So many images of each class, 32 px."""
    labels = np.repeat([0, 1], counts)
    pixels = np.clip(np.random.default_rng(seed).normal(mean, 40, (len(labels), 8, 8, 3)), 0, 255).astype(np.uint8)
    pixels = pixels.repeat(4, axis=1).repeat(4, axis=2)
    return Images(pixels, labels, tuple(f"{CLASSES[label]}/{number:04d}.png" for number, label in enumerate(labels)))


def features(images):
    return images.reshape(len(images), -1)[:, ::301].astype(np.float64) / 255


def settings(**changes):
    config = augmentation_gain_cytology.get_config("tiny").unlock()
    config.update(changes)
    return config


REAL = {"real": noise((6, 4), 0), "test": noise((9, 5), 1)}


def test_each_class_is_measured_against_its_own_test_scans():
    made = noise((8, 2), 2, mean=90)
    found = set_quality.distances(scores.Judge(features, "192", "a network"), {"generated": made}, REAL, CLASSES)
    rows = {(row["class"], row["images"]): row for row in found["distances"]}
    assert set(rows) == {(label, name) for label in CLASSES for name in ("training scans", "generated")}
    there, other = features(REAL["test"].pixels[:9]), features(made.pixels[:8])
    row = rows["flat", "generated"]
    assert (row["n"], row["n_test"]) == (8, 9) and row["fid"] == pytest.approx(fid.frechet_distance(there, other))
    assert row["kid"] == pytest.approx(kid.kernel_distance(there, other)) and row["kid_low"] < row["kid"] < row["kid_high"]
    assert row["kid"] > rows["flat", "training scans"]["kid"]
    assert "kid" not in rows["round", "generated"]  # two images are too few
    assert found["distances_protocol"].startswith("FID and KID: 192 features of Inception a network")


def test_copies_are_found_and_kept_until_the_images_change(tmp_path, monkeypatch):
    config, folder = settings(num_searched=10), tmp_path / "images" / "generated"
    image_sets.write(folder, REAL["real"])
    found = set_quality.measured(config, tmp_path, REAL, CLASSES)
    (row,) = found["copies"]
    assert (row["images"], row["n"]) == ("generated", 10) and row["similarity_median"] > 0.99 and row["share"] > 0.8
    assert "10 images in 10 training scans" in found["copies_protocol"] and found["distances"] == []
    monkeypatch.setattr(set_quality, "searched", lambda *arguments: {"copies": [], "copies_protocol": "measured anew"})
    assert set_quality.measured(config, tmp_path, REAL, CLASSES) == found
    monkeypatch.setattr(scores, "judge", lambda config: scores.Judge(features, config.features, "a network"))  # it was none before
    told = set_quality.measured(config, tmp_path, REAL, CLASSES)
    assert told["copies_protocol"] == "measured anew" and "a network" in told["distances_protocol"]
    monkeypatch.undo()
    monkeypatch.setattr(set_quality, "searched", lambda *arguments: {"copies": [], "copies_protocol": "measured anew"})
    image_sets.write(folder, noise((3, 3), 5))
    assert set_quality.measured(config, tmp_path, REAL, CLASSES)["copies_protocol"] == "measured anew"
    assert set_quality.measured(config, tmp_path / "elsewhere", REAL, CLASSES) == {}
