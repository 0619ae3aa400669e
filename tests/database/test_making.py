"""Images by index whatever happens on the way: killed anywhere, damaged on the way, refused near-copies, scores against `particles`."""

import collections
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from database import gates, index, making
from microscopy import atomic, particles
from microscopy.formats import read_image
from microscopy.pictures import to_uint8
from tests.database import fakes
from training.errors import ConfigError, RunError
from training.signals import Stop


class Killed(BaseException):
    """What no code here catches."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A database of 100 images made without interruption."""
    folder = tmp_path_factory.mktemp("whole") / "database"
    return making.make(folder, fakes.facts(), fakes.made_by(), judge=fakes.judge)


def test_ids_are_consecutive_and_indices_skip_what_was_refused(whole):
    stream = np.concatenate([fakes.chunk(number)[0] for number in range(3)])
    copied = fakes.judge(stream).copied
    accepted = np.flatnonzero(~copied)[:100]
    assert [row["index"] for row in whole.rows] == accepted.tolist()
    assert [row["id"] for row in whole.rows] == [f"{place:06d}" for place in range(100)]
    refused = whole.facts["refused"]
    assert [item["index"] for item in refused] == np.flatnonzero(copied[: accepted[-1]]).tolist() and len(refused) > 3
    assert all(item["scan"] == "scan1" and item["similarity"] > 0.4 for item in refused)
    assert not (whole.folder / making.PARTS).exists()


def test_files_hold_the_image_its_heights_and_its_instances(whole):
    row = whole.rows[17]
    images, fields = (part[row["index"] % 64] for part in fakes.chunk(row["index"] // 64))
    large, field = (cv2.resize(part, (48, 48), interpolation=cv2.INTER_LINEAR) for part in (images[..., 0], fields))
    picture, heights, labels = (read_image(whole.folder / row[kind], max_pixels=10**6) for kind in ("image", "heights", "label"))
    assert picture.dtype == np.uint8 and labels.dtype == np.uint16 and heights.dtype == np.float32
    assert np.abs(picture.astype(int) - to_uint8(large).astype(int)).max() <= 1
    np.testing.assert_allclose(heights, large * 4.0 + 2.5, atol=1e-4)
    assert ((labels > 0) != (field > 0)).sum() <= 2
    content = {kind: (whole.folder / row[kind]).read_bytes() for kind in ("image", "heights", "label")}
    assert [making.sha256_of_bytes(content[kind]) for kind in content] == [row["sha256"], row["heights_sha256"], row["label_sha256"]]


def test_scores_are_those_of_the_particles_measured_one_by_one(whole):
    for row in whole.rows[:12]:
        labels = read_image(whole.folder / row["label"], max_pixels=10**6).astype(np.int32)
        found = particles.measure(labels, nm_per_pixel=(2.5, 2.5), min_area=3)
        diameters = [one["equivalent_diameter_nm"] for one in found if not one["touches_border"]]
        assert row["particles"] == len(found) and row["coverage"] == pytest.approx(sum(one["area"] for one in found) / 48**2)
        assert row["mean_diameter"] == (pytest.approx(np.mean(diameters)) if diameters else None)
        heights = read_image(whole.folder / row["heights"], max_pixels=10**6).astype(np.float64)
        assert row["roughness"] == pytest.approx(np.sqrt(np.mean((heights - heights.mean()) ** 2)), rel=1e-9)


def test_splits_are_drawn_by_id_in_about_their_shares(whole):
    assert 8 <= sum(row["split"] == "held_out" for row in whole.rows) <= 35
    shares = [making.share_of(0, f"{number:06d}") for number in range(5000)]
    assert np.mean(np.array(shares) < 0.1) == pytest.approx(0.1, abs=0.015)


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_random_points_it_ends_with_the_same_bytes(whole, tmp_path, monkeypatch, seed):
    """Before or after a file is renamed into place, three times in one database; then once more to the end."""
    random, folder, replace = np.random.default_rng(seed), tmp_path / "database", os.replace
    for _ in range(3):
        left = collections.deque(range(int(random.integers(1, 220))))
        after = random.random() < 0.5

        def dying(source, target, left=left, after=after):
            if left:
                left.pop()
                return replace(source, target)
            if after:
                replace(source, target)
            raise Killed

        monkeypatch.setattr(atomic.os, "replace", dying)
        try:
            making.make(folder, fakes.facts(), fakes.made_by(), judge=fakes.judge)
        except Killed:
            pass
        else:
            break
        finally:
            monkeypatch.setattr(atomic.os, "replace", replace)
    making.make(folder, fakes.facts(), fakes.made_by(), judge=fakes.judge)
    assert fakes.hashes(folder) == fakes.hashes(whole.folder)


PROGRAM = """
import sys
from database import making
from tests.database import fakes
print("begun", flush=True)
making.make(sys.argv[1], fakes.facts(), fakes.made_by(), judge=fakes.judge)
"""


def test_kill_9_leaves_nothing_half_written(whole, tmp_path):
    folder = tmp_path / "database"
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        child.stdout.readline()
        while child.poll() is None and len(list(folder.glob("images/0*.png"))) < 30:
            pass
        child.kill()
    done = {name for name in fakes.hashes(folder) if not name.endswith(".tmp") and not name.startswith((making.PARTS, index.FACTS))}
    expected = fakes.hashes(whole.folder)
    assert len(done) >= 30 and all((folder / name).read_bytes() == expected[name] for name in done)
    making.make(folder, fakes.facts(), fakes.made_by(), judge=fakes.judge)
    assert fakes.hashes(folder) == expected


def test_what_was_damaged_between_two_starts_is_made_again(whole, tmp_path):
    folder, stop, calls = tmp_path / "database", Stop(), []

    def counted(number):
        calls.append(number)
        stop.signal = 15 if number == 1 else None
        return fakes.chunk(number)

    assert making.make(folder, fakes.facts(), fakes.made_by(generator=counted), judge=fakes.judge, stop=stop) is None
    assert calls == [0, 1] and not (folder / index.TABLE).exists()
    (folder / "images" / "000005.png").write_bytes(b"damaged")
    making.make(folder, fakes.facts(), fakes.made_by(generator=counted), judge=fakes.judge)
    assert calls == [0, 1, 0, 1, 2] and fakes.hashes(folder) == fakes.hashes(whole.folder)


def test_a_finished_database_is_left_and_another_one_is_refused(whole):
    before = fakes.hashes(whole.folder)
    elsewhere = {"platform": "gpu", "device": "another", "jax": "0.1"}
    again = making.make(whole.folder, fakes.facts(environment=elsewhere), fakes.made_by(generator=None), judge=fakes.judge)
    assert again.rows == whole.rows and fakes.hashes(whole.folder) == before
    with pytest.raises(ConfigError, match=r"holds another database: seed is 3 there, 4 now\.\nUse another folder"):
        making.make(whole.folder, fakes.facts(seed=4), fakes.made_by(), judge=fakes.judge)


def test_an_unfinished_one_is_not_gone_on_with_on_another_device(tmp_path):
    making.make(tmp_path, fakes.facts(), fakes.made_by(), stop=Stop(signal=15))
    with pytest.raises(ConfigError, match="environment.platform is .* there, tpu now"):
        making.make(tmp_path, fakes.facts(environment={**fakes.facts()["environment"], "platform": "tpu"}), fakes.made_by())


def test_a_folder_with_other_images_is_refused(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mine.png").touch()
    with pytest.raises(ConfigError, match="holds files, such as mine.png, without database.json"):
        making.make(tmp_path, fakes.facts(), fakes.made_by())


def test_a_generator_that_has_memorised_its_scans_is_given_up(tmp_path):
    def all_copies(images):
        return gates.Judged(np.full(64, 0.99), ["scan2"] * 64, np.arange(64) > 3)

    with pytest.raises(RunError, match="240 of 256 generated images are near-copies of training scans, the closest of scan2"):
        making.make(tmp_path, fakes.facts(), fakes.made_by(), judge=all_copies)


def test_grey_scans_have_no_heights_and_without_judge_no_neighbour(tmp_path):
    made = making.make(tmp_path, fakes.facts(3, unit="grey"), fakes.made_by("grey"))
    assert all(row["heights"] == row["heights_sha256"] == row["nearest"] == "" for row in made.rows) and made.facts["refused"] == []
    assert [row["nearest_similarity"] for row in made.rows] == [row["nm_per_pixel"] for row in made.rows] == [None] * 3
    assert not any((tmp_path / "heights").iterdir())


def test_a_full_disk_is_told_with_the_file(tmp_path, monkeypatch):
    write = atomic.write_bytes

    def full(path, content):
        if path.name in ("000001.png", index.TABLE + index.PENDING):
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(making.atomic, "write_bytes", full)
    for num_images, name in ((2, "images/000001.png"), (1, index.TABLE)):
        with pytest.raises(RunError, match=f"{name}.* cannot be written: No space left on device"):
            making.make(tmp_path / str(num_images), fakes.facts(num_images), fakes.made_by())
