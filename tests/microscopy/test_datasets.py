"""A tiny set, defined and prepared here, comes back through tfds without TensorFlow."""

import hashlib
import io
import json
import logging
import subprocess
import sys

import cv2
import numpy as np
import pytest

tfds = pytest.importorskip("tensorflow_datasets")

from configs import dcgan  # noqa: E402
from microscopy import preparation  # noqa: E402
from microscopy.datasets import read_tfds  # noqa: E402
from microscopy.scan import DataError  # noqa: E402

LIMIT = 10**6


def encoded(array):
    return cv2.imencode(".png", array)[1].tobytes()


def image(number):
    return np.random.default_rng(number).integers(256, size=(20 + number, 30), dtype=np.uint8)


def instances(number):
    return np.random.default_rng(number).integers(1000, size=(20 + number, 30), dtype=np.uint16)


class TinyScans(tfds.core.GeneratorBasedBuilder):
    __module__ = "tiny_sets"  # for a dotted module name tfds 4.9.10 needs importlib_resources, which it does not install
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        grey = tfds.features.Image(shape=(None, None, 1))
        ids = tfds.features.Image(shape=(None, None, 1), dtype=np.uint16)
        features = {"image": grey, "label": tfds.features.ClassLabel(names=["round", "square"]), "mask": ids}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(range(4)), "test": self._generate_examples(range(4, 6))}

    def _generate_examples(self, numbers):
        for n in numbers:
            label = ("round", "square", -1)[n % 3]
            yield str(n), {"image": io.BytesIO(encoded(image(n))), "label": label, "mask": io.BytesIO(encoded(instances(n)))}


class TinyArrays(tfds.core.GeneratorBasedBuilder):
    __module__ = "tiny_sets"
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        heights = tfds.features.Tensor(shape=(None, None), dtype=np.float32, encoding="zlib")
        text = tfds.features.Text()
        features = tfds.features.FeaturesDict({"image": heights, "segmentation": heights, "label": text, "patient_id": text})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        heights, ids = np.full((3, 4), 0.25, np.float32), np.full((3, 4), 7, np.float32)
        yield "a", {"image": heights, "segmentation": ids, "label": "gold", "patient_id": "ada"}


class TinyPairs(tfds.core.GeneratorBasedBuilder):
    """As div2k is: a picture and a reduced one."""

    __module__ = "tiny_sets"
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        colour = tfds.features.Image(shape=(None, None, 3))
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"lr": colour, "hr": colour}))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        large = np.random.default_rng(0).integers(256, size=(8, 12, 3), dtype=np.uint8)
        yield "a", {"lr": io.BytesIO(encoded(large[::4, ::4])), "hr": io.BytesIO(encoded(large))}


class TinyTable(tfds.core.GeneratorBasedBuilder):
    __module__ = "tiny_sets"
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"x": np.int64}))

    def _split_generators(self, dl_manager):
        return {"train": iter([("a", {"x": 1})])}

    def _generate_examples(self):
        raise NotImplementedError


class TinyDamaged(TinyScans):
    __module__ = "tiny_sets"

    def _generate_examples(self, numbers):
        for n in numbers:
            content = encoded(image(n))
            content = content[: len(content) // 2] if n == 2 else content
            yield str(n), {"image": io.BytesIO(content), "label": "round", "mask": io.BytesIO(encoded(instances(n)[n == 3 :]))}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    tfds.disable_progress_bar()
    logging.getLogger("absl").setLevel(logging.ERROR)
    for file_format in ("array_record", "parquet"):
        for make in (TinyScans, TinyArrays, TinyPairs, TinyTable, TinyDamaged):
            make(data_dir=folder / file_format, file_format=file_format).download_and_prepare()
    return folder


@pytest.mark.parametrize("file_format", ["array_record", "parquet"])
def test_every_example_comes_back(prepared, file_format):
    scans, refused = read_tfds("tiny_scans", data_dir=prepared / file_format, max_pixels=LIMIT)
    assert refused == []
    assert [scan.id for scan in scans] == ["test/00000", "test/00001", "train/00000", "train/00001", "train/00002", "train/00003"]
    numbers = [scan.pixels.shape[0] - 20 for scan in scans]  # tfds shuffles; the height tells which is which
    assert sorted(numbers[:2]) == [4, 5] and sorted(numbers[2:]) == [0, 1, 2, 3]
    for scan, number in zip(scans, numbers, strict=True):
        np.testing.assert_array_equal(scan.pixels, image(number))
        np.testing.assert_array_equal(scan.mask, instances(number))
        assert scan.mask.dtype == np.int32 and scan.pixels.dtype == np.uint8
        assert scan.label == ("round", "square", None)[number % 3]
        assert scan.sha256 == hashlib.sha256(encoded(image(number))).hexdigest()
        assert scan.file == f"tfds:tiny_scans/{scan.id}"


def test_of_pairs_the_larger_picture_is_taken(prepared):
    (scan,), _ = read_tfds("tiny_pairs", data_dir=prepared / "array_record", max_pixels=LIMIT)
    large = np.random.default_rng(0).integers(256, size=(8, 12, 3), dtype=np.uint8)
    np.testing.assert_array_equal(scan.pixels, large[..., ::-1])  # OpenCV writes BGR


def test_scale_is_taken_and_masks_are_left_on_request(prepared):
    scans, _ = read_tfds("tiny_scans", data_dir=prepared / "parquet", max_pixels=LIMIT, nm_per_pixel=(0.5, 1), masks=False)
    assert len(scans) == 6 and all(scan.nm_per_pixel == (0.5, 1.0) and scan.mask is None for scan in scans)
    with pytest.raises(DataError, match="nm_per_pixel: -1 is wrong"):
        read_tfds("tiny_scans", data_dir=prepared / "parquet", max_pixels=LIMIT, nm_per_pixel=-1)


def test_the_config_reaches_the_set(prepared):
    data = dcgan.get_config("tiny").unlock().data
    data.update({"source": "tfds:tiny_damaged", "tfds_dir": str(prepared / "parquet"), "skip_bad": True, "nm_per_pixel": 2.0})
    scans, refused = preparation.load_scans(data)
    assert len(scans) == 5 and len(refused) == 1 and {scan.nm_per_pixel for scan in scans} == {(2.0, 2.0)}
    data.update({"use_masks": True})
    assert [len(part) for part in preparation.load_scans(data)] == [4, 2]  # the wrong mask is an error only where masks are wanted
    data.update({"skip_bad": False})
    with pytest.raises(DataError, match="tfds:tiny_damaged/t"):
        preparation.load_scans(data)


def test_splits_and_slices(prepared):
    whole, _ = read_tfds("tiny_scans:1.0.0", split="train", data_dir=prepared / "array_record", max_pixels=LIMIT)
    first, _ = read_tfds("tiny_scans", split="train[:1]", data_dir=prepared / "array_record", max_pixels=LIMIT)
    rest, _ = read_tfds("tiny_scans", split="train[1:]", data_dir=prepared / "array_record", max_pixels=LIMIT)
    assert [scan.sha256 for scan in first + rest] == [scan.sha256 for scan in whole] and len(first) == 1
    with pytest.raises(DataError, match=r"'train\[:1\]' has 1 examples but 4 would be read"):
        read_tfds("tiny_scans", split="train[:1]", data_dir=prepared / "parquet", max_pixels=LIMIT)
    for split in ("validation", "train[", ""):
        with pytest.raises(DataError, match=r"tfds:tiny_scans: split .* its splits are test, train"):
            read_tfds("tiny_scans", split=split, data_dir=prepared / "array_record", max_pixels=LIMIT)


@pytest.mark.parametrize("file_format", ["array_record", "parquet"])
def test_arrays_and_text_labels(prepared, file_format):
    (scan,), _ = read_tfds("tiny_arrays", data_dir=prepared / file_format, max_pixels=LIMIT)
    assert (scan.label, scan.group, scan.pixels.dtype, scan.pixels.shape) == ("gold", "ada", np.float32, (3, 4))
    assert (scan.pixels == 0.25).all() and (scan.mask == 7).all()
    with pytest.raises(DataError, match=r"tfds:tiny_arrays/train/00000: has 4 x 3 pixels.*max_pixels = 11"):
        read_tfds("tiny_arrays", data_dir=prepared / file_format, max_pixels=11)


def test_damaged_examples_stop_or_are_counted(prepared):
    with pytest.raises(DataError, match=r"tfds:tiny_damaged/t\w+/0000\d"):
        read_tfds("tiny_damaged", data_dir=prepared / "parquet", max_pixels=LIMIT)
    scans, refused = read_tfds("tiny_damaged", data_dir=prepared / "parquet", max_pixels=LIMIT, skip_bad=True)
    assert sorted(scan.pixels.shape[0] - 20 for scan in scans) == [0, 1, 4, 5]
    reasons = " / ".join(item.reason for item in refused)
    assert len(refused) == 2 and "mask has 30 x 22 px, the image 30 x 23" in reasons and "truncated" in reasons
    with pytest.raises(DataError, match="none of its 6 examples can be read"):
        read_tfds("tiny_damaged", data_dir=prepared / "parquet", max_pixels=9, skip_bad=True)


def test_sets_that_cannot_be_read(prepared, tmp_path):
    cases = {
        "tiny_scanz": r"tfds:tiny_scanz: no such data set",
        "mnits": r"did you mean mnist\?",
        "tiny_scans:2.0.0": "cannot be opened .*version 2.0.0.*; check its name and version",
        "tiny_table": r"no feature `image` \(only x\)",
        "huggingface:mnist": "no name of a data set",
        "../tiny_scans": "no name of a data set",
        "": "no name of a data set",
    }
    for name, words in cases.items():
        with pytest.raises(DataError, match=words) as caught:
            read_tfds(name, data_dir=prepared / "array_record", max_pixels=LIMIT)
        assert len(str(caught.value).splitlines()) <= 5
    with pytest.raises(DataError, match=r"(?s)tfds:mnist: is not prepared in .*\n  import tensorflow_datasets.*download_and_prepare"):
        read_tfds("mnist", data_dir=tmp_path, max_pixels=LIMIT)


def test_a_set_stored_for_tensorflow_says_how_to_prepare_it(prepared, tmp_path):
    folder = tmp_path / "tiny_scans" / "1.0.0"
    folder.mkdir(parents=True)
    for file in (prepared / "array_record/tiny_scans/1.0.0").iterdir():
        (folder / file.name.replace("array_record", "tfrecord")).write_bytes(file.read_bytes())
    info = json.loads((folder / "dataset_info.json").read_text())
    info["fileFormat"] = "tfrecord"
    (folder / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(DataError, match=r"(?s)stored as tfrecord, which needs TensorFlow.*file_format='array_record'"):
        read_tfds("tiny_scans", data_dir=tmp_path, max_pixels=LIMIT)


def test_neither_tfds_nor_tensorflow_is_imported_early(prepared):
    code = (
        "import sys; from microscopy.datasets import read_tfds; assert 'tensorflow_datasets' not in sys.modules;"
        f"read_tfds('tiny_scans', data_dir={str(prepared / 'parquet')!r}, max_pixels=10**6); assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
