"""The reader of HDF5 against a file that h5py 3.16 wrote (`written`, packed by xz), whole, cut and with wrong bytes."""

import lzma
import pathlib

import numpy as np
import pytest

from metrics import weights
from metrics.hdf5_file import MAGIC, read_hdf5
from microscopy.scan import DataError

STORED = pathlib.Path(__file__).with_name("written_by_h5py.h5.xz")


def arrays():
    """Returns the float arrays of the file: groups as Keras has them, so many members that the root's B-tree has two levels, all sizes."""
    source = np.random.default_rng(0)
    found = {f"conv2d_{n}/conv2d_{n}/kernel:0": source.normal(size=(1, 2, 2, n + 1)).astype("<f4") for n in range(3)}
    found |= {f"many_{n:03}": np.float32(n) for n in range(300)}
    return found | {"predictions/bias:0": np.arange(5, dtype=">f8"), "half": np.arange(3, dtype="<f2")}


def written(h5py, path):
    """Writes that file with h5py, with attributes as Keras', and an array of whole numbers and a text besides."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"conv2d_0"] * 40
        for name, array in arrays().items():
            file[name] = array
        for n in range(3):
            file[f"conv2d_{n}"].attrs["weight_names"] = [b"kernel:0"]
        file["whole"], file["text"] = np.arange(4), "abc"


@pytest.fixture(scope="module")
def content():
    return lzma.decompress(STORED.read_bytes())


def check(found):
    assert found.keys() == arrays().keys()
    for name, array in arrays().items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


def test_what_h5py_wrote_is_read(content):
    check(read_hdf5(content))


def test_what_this_h5py_writes_is_read(tmp_path):
    h5py = pytest.importorskip("h5py", reason="needs h5py")
    written(h5py, tmp_path / "new.h5")
    check(read_hdf5((tmp_path / "new.h5").read_bytes()))
    for name, options in (("latest.h5", {"libver": "latest"}), ("zipped.h5", {})):
        with h5py.File(tmp_path / name, "w", **options) as file:
            file.create_dataset("a", data=np.arange(400.0), compression=None if options else "gzip")
        with pytest.raises(DataError, match="newer or compressed layout.*np.savez"):
            read_hdf5((tmp_path / name).read_bytes())


def test_weights_of_keras_are_read_from_it(tmp_path, content):
    (tmp_path / "keras.h5").write_bytes(content)
    with pytest.raises(DataError, match="keras.h5: the file holds 3 layers conv2d, InceptionV3 has 94"):
        weights.read(tmp_path / "keras.h5")


def test_a_newer_layout_and_a_cut_file_are_one_error(content):
    with pytest.raises(DataError, match="newer or compressed layout"):
        read_hdf5(MAGIC + b"\x02" + content[9:])
    whole = 0
    for end in np.random.default_rng(1).integers(8, len(content), 60):
        try:
            found = read_hdf5(content[:end])
        except DataError:
            continue
        # The file may end in what no float array needs.
        check(found)
        whole += 1
    assert whole < 30
    for end in (8, 40, 100):
        with pytest.raises(DataError):
            read_hdf5(content[:end])


def test_wrong_bytes_end_in_arrays_or_in_one_error(content):
    source, refused = np.random.default_rng(2), 0
    used = np.flatnonzero(np.frombuffer(content, np.uint8))
    for place in source.choice(used, 400, replace=False):
        try:
            found = read_hdf5(content[:place] + bytes([source.integers(256)]) + content[place + 1 :])
        except DataError as error:
            assert str(error).count("\n") < 3
            refused += 1
        else:
            assert sum(array.nbytes for array in found.values()) <= len(content)
    assert refused > 20
