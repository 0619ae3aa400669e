"""Tensors out of .pth files written by hand and by PyTorch; pickles that want more are refused and run nothing."""

import io
import os
import pathlib
import pickle
import struct
import zipfile

import numpy as np
import pytest

from metrics.torch_file import OLD_MAGIC, read_torch
from microscopy.scan import DataError

EMPTY = b"ccollections\nOrderedDict\n)R"


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def numbers(*values):
    return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"


def tensor(key, shape, stride, offset=0, storage="FloatStorage", num=6, rebuild=b"ctorch._utils\n_rebuild_tensor_v2\n"):
    identity = b"(" + text("storage") + f"ctorch\n{storage}\n".encode() + text(key) + text("cpu") + b"J" + struct.pack("<i", num) + b"tQ"
    return rebuild + b"(" + identity + b"J" + struct.pack("<i", offset) + numbers(*shape) + numbers(*stride) + b"\x89" + EMPTY + b"tR"


def program(tensors):
    return b"\x80\x02" + EMPTY + b"(" + b"".join(text(name) + code for name, code in tensors.items()) + b"u."


def archive(code, stored=None, names=("archive/data.pkl",)):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, code)
        for key, numbers_ in (stored or {}).items():
            file.writestr(f"archive/data/{key}", numbers_.tobytes())
    return buffer.getvalue()


def plain(code, stored):
    start = OLD_MAGIC + b"\x80\x02M\xe9\x03." + b"\x80\x02}(" + text("little_endian") + b"\x88u."
    keys = b"\x80\x02](" + b"".join(map(text, stored)) + b"e."
    return start + code + keys + b"".join(struct.pack("<q", each.size) + each.tobytes() for each in stored.values())


SIX = np.arange(6, dtype=np.float32)
ORDINARY = {"a": tensor("0", (2, 3), (3, 1)), "b": tensor("1", (3,), (2,), offset=1), "turned": tensor("0", (3, 2), (1, 3))}


@pytest.mark.parametrize("layout", [archive, plain])
def test_tensors_come_back_with_their_strides_and_offsets(layout):
    found = read_torch(layout(program(ORDINARY), {"0": SIX, "1": SIX * 2}))
    np.testing.assert_array_equal(found["a"], SIX.reshape(2, 3))
    np.testing.assert_array_equal(found["turned"], SIX.reshape(2, 3).T)
    np.testing.assert_array_equal(found["b"], [2, 6, 10])


@pytest.mark.parametrize(
    ("storage", "dtype", "num"),
    [("HalfStorage", "<f2", 6), ("BFloat16Storage", "<u2", 6), ("LongStorage", "<i8", 6), ("DoubleStorage", "<f8", 6)],
)
def test_dtypes(storage, dtype, num):
    bits = (
        (np.arange(num, dtype=np.float32).view(np.uint32) >> 16).astype("<u2")
        if storage == "BFloat16Storage"
        else np.arange(num, dtype=dtype)
    )
    found = read_torch(archive(program({"a": tensor("0", (num,), (1,), storage=storage)}), {"0": bits}))
    np.testing.assert_array_equal(found["a"].astype(float), np.arange(num))


def old_tensor(key, shape, stride):
    code = tensor(key, shape, stride, rebuild=b"ctorch._utils\n_rebuild_tensor\n")
    # Four arguments, neither requires_grad nor hooks yet; None is for a view of the storage.
    return code.removesuffix(b"\x89" + EMPTY + b"tR").replace(b"tQ", b"NtQ") + b"tR"


PARAMETER = b"ctorch.nn.parameter\nParameter\n"
OLD_PARAMETERS = [
    lambda tensor_: PARAMETER + b")\x81(" + tensor_ + b"N\x89\x88" + EMPTY + b"tb",  # an empty one that is filled later
    lambda tensor_: PARAMETER + b"(" + tensor_ + b"\x88tR(\x88\x89" + EMPTY + b"tb",
    lambda tensor_: tensor_,
]


@pytest.mark.parametrize("parameter", OLD_PARAMETERS)
def test_parameters_as_the_first_versions_stored_them(parameter):
    content = plain(program({"a": parameter(old_tensor("0", (3, 2), (1, 3)))}), {"0": SIX})
    np.testing.assert_array_equal(read_torch(content)["a"], SIX.reshape(2, 3).T)
    torch = pytest.importorskip("torch", reason="PyTorch reads the same file")
    found = torch.load(io.BytesIO(content), weights_only=True)["a"]
    np.testing.assert_array_equal(found.detach().numpy(), SIX.reshape(2, 3).T)


class Hostile:
    """What a pickle may do to whoever loads it."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("layout", [archive, plain])
def test_a_hostile_pickle_is_refused_and_nothing_runs(tmp_path: pathlib.Path, protocol, layout):
    place = tmp_path / "ran"
    code = pickle.dumps({"a": Hostile(place)}, protocol)
    with pytest.raises(DataError, match="it is refused, nothing was run"):
        read_torch(layout(code, {}))
    assert not place.exists()
    pickle.loads(code)  # the same bytes do run elsewhere
    assert place.exists()


def test_the_name_asked_for_is_told():
    with pytest.raises(DataError, match=r"posix\.mkdir"):
        read_torch(archive(pickle.dumps(Hostile("x"), 2)))
    with pytest.raises(DataError, match=r"torch\._utils\._rebuild_parameter"):
        read_torch(archive(program({"a": tensor("0", (6,), (1,), rebuild=b"ctorch._utils\n_rebuild_parameter\n")})))


BEYOND = [
    ((7,), (1,), 0),
    ((6,), (1,), 1),
    ((2, 3), (4, 1), 0),
    ((2**20, 2**20), (0, 0), 0),
    ((3,), (-1,), 5),
    ((-1,), (1,), 0),
    ((2,), (1, 1), 0),
]


@pytest.mark.parametrize(("shape", "stride", "offset"), BEYOND)
def test_tensors_beyond_their_numbers_are_refused(shape, stride, offset):
    with pytest.raises(DataError, match="damaged"):
        read_torch(archive(program({"a": tensor("0", shape, stride, offset)}), {"0": SIX}))


def test_damaged_files_are_one_short_error():
    whole = {layout: layout(program(ORDINARY), {"0": SIX, "1": SIX}) for layout in (archive, plain)}
    for content in whole.values():
        for end in range(len(OLD_MAGIC), len(content), 7):
            with pytest.raises(DataError) as error:
                read_torch(content[:end])
            assert len(str(error.value)) < 250
    wrong = [
        b"\x80\x02.",
        b"\x80\x02]K\x01R.",
        program({})[:-1],
        b"\x80\x02" + EMPTY + b"K\x01K\x02s0",
        b"\x80\x02K\x01.",
        b"\x80\x02h\x05.",
    ]
    for code in wrong:
        with pytest.raises(DataError):
            read_torch(archive(code))


def test_an_old_ordered_dict_of_pairs_is_read_and_its_keys_are_text():
    pairs = b"(" + text("a") + tensor("0", (6,), (1,)) + b"t"
    code = b"\x80\x02ccollections\nOrderedDict\n](" + pairs + b"e\x85R."
    np.testing.assert_array_equal(read_torch(archive(code, {"0": SIX}))["a"], SIX)
    nested = b")" + b"q\x00h\x00\x86" * 200  # hashing it would take 2^200 steps
    for hostile in (b"\x80\x02}" + nested + b"K\x01s.", b"\x80\x02ccollections\nOrderedDict\n](" + nested + b"K\x01\x86e\x85R."):
        with pytest.raises(DataError, match="a name that is no text"):
            read_torch(archive(hostile))


def test_other_archives_are_named():
    for names, reason in ((("archive/data.pkl", "archive/constants.pkl"), "TorchScript"), (("x.txt",), "no state dict")):
        with pytest.raises(DataError, match=reason):
            read_torch(archive(program({}), names=names))


@pytest.mark.parametrize("zipped", [True, False])
def test_files_that_pytorch_writes(zipped):
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, (1, 5)), torch.nn.BatchNorm2d(4))
    state = model.state_dict()
    state["half"], state["turned"] = torch.rand(5).half(), torch.rand(4, 3).t()
    state["brain"] = torch.rand(7).bfloat16()
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=zipped)
    found = read_torch(buffer.getvalue())
    assert found.keys() == state.keys()
    for name, expected in state.items():
        np.testing.assert_array_equal(found[name].astype(np.float64), expected.double().numpy())
