"""Sets of images: files that say nothing of their scans, distances by brute force, and which candidates are left."""

import csv

import numpy as np
import pytest

from studies import image_sets
from studies.image_sets import Images
from training.errors import RunError

CLASSES = ("flat", "round")


def some(num, seed=0, size=8):
    """`num` images of each class."""
    labels = np.repeat([0, 1], num)
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), size, size, 3), np.uint8)
    return Images(pixels, labels, tuple(f"{CLASSES[label]}/{number:04d}.png" for number, label in enumerate(labels)))


def test_what_is_written_is_read_and_nothing_else_that_it_wrote_stays(tmp_path):
    images = some(3)
    image_sets.write(tmp_path, some(5, seed=1))
    (foreign := tmp_path / "flat" / "mine.png").write_bytes(b"")
    with pytest.raises(RunError, match="mine.png: is no image of this set"):
        image_sets.write(tmp_path, images)
    assert len(list(tmp_path.glob("*/*.png"))) == 11
    foreign.unlink()
    image_sets.write(tmp_path, images)
    when = (tmp_path / "flat" / "0000.png").stat().st_mtime_ns
    image_sets.write(tmp_path, images)
    assert (tmp_path / "flat" / "0000.png").stat().st_mtime_ns == when
    found = image_sets.read(tmp_path, CLASSES)
    np.testing.assert_array_equal(found.pixels, images.pixels)
    np.testing.assert_array_equal(found.labels, images.labels)
    assert found.files == images.files
    with open(tmp_path / "index.csv", newline="") as file:
        assert [(row["file"], row["label"]) for row in csv.DictReader(file)] == [(file, file.split("/")[0]) for file in images.files]
    (tmp_path / "round" / "0003.png").write_bytes(b"torn")
    with pytest.raises(RunError, match="0003.png cannot be read"):
        image_sets.read(tmp_path, CLASSES)


def test_mixtures_and_parts_keep_pixels_with_their_labels():
    real, made = some(2), some(3, seed=1)
    both = image_sets.mixed({"real": real, "generated": image_sets.first(made, 2)})
    assert len(both.labels) == 8 and len(set(both.files)) == 8 and "round/generated_0004.png" in both.files
    for picture, label, file in zip(*both, strict=True):
        source = real if "/real_" in file else made
        index = source.files.index(file.replace("real_", "").replace("generated_", ""))
        assert file.startswith(CLASSES[label]) and label == source.labels[index]
        np.testing.assert_array_equal(picture, source.pixels[index])
    empty = image_sets.taken(made, np.zeros(0, int))
    assert image_sets.mixed({"real": real, "selected": empty}).labels.tolist() == real.labels.tolist()


def test_shuffled_labels_keep_the_images_and_the_sizes_of_classes():
    images = some(60)
    found = image_sets.shuffled(images, CLASSES, 0)
    np.testing.assert_array_equal(np.sort(found.labels), images.labels)
    assert sorted(map(bytes, found.pixels)) == sorted(map(bytes, images.pixels))
    was = {bytes(picture): label for picture, label in zip(images.pixels, images.labels, strict=True)}
    same = np.mean([was[bytes(picture)] == label for picture, label in zip(found.pixels, found.labels, strict=True)])
    assert 0.3 < same < 0.7 and all(file.startswith(CLASSES[label]) for file, label in zip(found.files, found.labels, strict=True))


@pytest.mark.parametrize("shape", [(6, 6), (6, 6, 3)])
def test_distances_are_the_least_over_turns_and_mirrors(shape):
    random = np.random.default_rng(0)
    images, real = (random.integers(0, 256, (num, *shape), np.uint8) for num in (3, 4))
    images[0] = np.rot90(real[2], 3)
    images[1] = np.fliplr(np.rot90(real[1]))
    found = image_sets.distances(images, real)
    for i, one in enumerate(images):
        for j, other in enumerate(real):
            turned = [np.rot90(flipped, quarter) for flipped in (other, np.flipud(other)) for quarter in range(4)]
            least = min(np.sqrt(np.mean((one.astype(float) - view) ** 2)) for view in turned)
            assert found[i, j] == pytest.approx(least, abs=1e-6)
    assert found[0, 2] == pytest.approx(0, abs=1e-6) and found[1, 1] == pytest.approx(0, abs=1e-6) and found.max() > 50


def test_copies_and_strangers_go_and_the_surest_stay():
    grey = lambda *levels: np.stack([np.full((4, 4), level, np.uint8) for level in levels])  # noqa: E731
    # Real images of class 0 lie 20 and 30 grey levels apart: nearer than 20 is a copy, farther than 30 a stranger.
    real = Images(grey(100, 120, 150, 200), np.array([0, 0, 0, 1]), ("",) * 4)
    candidates = Images(grey(101, 75, 71, 60, 175, 180, 0, 200), np.array([0, 0, 0, 0, 0, 0, 1, 1]), tuple("abcdefgh"))
    sure = np.array([0.9, 0.3, 0.6, 0.99, 0.8, 0.1, 0.4, 0.7])
    probabilities = np.where((candidates.labels == 0)[:, None], np.stack([sure, 1 - sure], 1), np.stack([1 - sure, sure], 1))
    chosen, rows = image_sets.select(candidates, probabilities, real, 2)
    assert [candidates.files[index] for index in chosen] == ["c", "e", "g", "h"]  # 71 and 175; of one real image nothing is known
    assert (rows[0]["copies"], rows[0]["strangers"], rows[0]["selected"], rows[0]["least_confidence"]) == (1, 1, 2, 0.6)
    assert rows[0]["as_asked"] == pytest.approx(4 / 6) and rows[1]["selected"] == 2 and rows[1]["as_asked"] == 0.5
    chosen, rows = image_sets.select(candidates, probabilities, real, 1)
    assert [candidates.files[index] for index in chosen] == ["e", "h"]


def test_one_pair_of_near_duplicates_does_not_let_copies_pass():
    real = np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8)
    real[1] = real[0]
    real[1, 0, 0] ^= 1
    copied = real[10:].copy()
    copied[:, 0, 0] ^= 7
    candidates = Images(copied, np.zeros(10, int), ("",) * 10)
    _, (row,) = image_sets.select(candidates, np.ones((10, 1)), Images(real, np.zeros(20, int), ("",) * 20), 10)
    assert row["copies"] == 10 and row["selected"] == 0


def test_real_images_are_repeated_until_they_are_half_of_each_class():
    real = Images(np.arange(4, dtype=np.uint8).reshape(4, 1, 1), np.array([0, 0, 0, 1]), ("a/0.png", "a/1.png", "a/2.png", "b/3.png"))
    twice = image_sets.repeated(real, np.array([0, 0, 1, 1, 1, 2]))
    assert twice.pixels.ravel().tolist() == [0, 1, 2, 3, 3, 3] and twice.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert twice.files[3:] == ("b/3.png", "b/again1_3.png", "b/again2_3.png") and twice.files[:3] == real.files[:3]
    same = image_sets.repeated(real, np.array([], int))
    assert same.files == real.files and (same.pixels == real.pixels).all()


def test_an_overview_has_a_row_a_class_of_what_there_is(tmp_path):
    image_sets.write(tmp_path / "real", some(3))
    image_sets.write(tmp_path / "selected", image_sets.taken(some(3, seed=1), np.array([0])))
    picture = image_sets.overview(tmp_path, CLASSES, 4)
    assert picture.shape == (4 * 8 + 3 * 2, 4 * 8 + 3 * 2, 3)
    np.testing.assert_array_equal(picture[:8, :8], some(3).pixels[0])
    assert (picture[30:] == 255).all() and not (picture[20:28, :8] == 255).all()
