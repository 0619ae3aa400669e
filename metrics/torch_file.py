"""Tensors of PyTorch .pth files, without PyTorch and without running what is inside.

Such a file is a pickle, and a pickle is a program. Its instructions are listed first (`pickletools` runs nothing); a file with any
instruction or name that a dict of tensors does not need is refused then. The rest is carried out by the few lines below, which
import nothing and call nothing that the file names. Both layouts are read: the zip archive (torch >= 1.6) and the older plain one,
which the FID weights of 2019 have. Errors are DataError without the file's name.
"""

import dataclasses
import io
import math
import pickletools
import struct
import zipfile
import zlib

import jax.numpy as jnp
import numpy as np

from microscopy.scan import DataError

OLD_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
MAX_BYTES = 2**31
MAX_INSTRUCTIONS = 2**20

_STORAGES = {
    "torch FloatStorage": np.dtype("<f4"),
    "torch HalfStorage": np.dtype("<f2"),
    "torch BFloat16Storage": np.dtype(jnp.bfloat16),
    "torch DoubleStorage": np.dtype("<f8"),
    "torch LongStorage": np.dtype("<i8"),
}
_DICT, _PARAMETER = "collections OrderedDict", "torch.nn.parameter Parameter"
_REBUILD = ("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor")
_PLAIN = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING")
_BUILDING = ("PROTO", "FRAME", "STOP", "MARK", "EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3")
_FILLING = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET")
_ADMITTED = {*_PLAIN, *_VALUES, *_BUILDING, *_FILLING, "GLOBAL", "REDUCE", "NEWOBJ", "BUILD", "BINPERSID"}
_MALFORMED = (IndexError, KeyError, TypeError, ValueError, AttributeError, OverflowError, struct.error, zlib.error)


class _Name(str):
    """A name that the file asks for; it stays a name."""


@dataclasses.dataclass(frozen=True)
class _Storage:
    dtype: np.dtype
    key: str
    num: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple
    stride: tuple


@dataclasses.dataclass
class _Parameter:
    """A parameter of the first versions of PyTorch (torchvision's VGG of 2017); its tensor may come after it."""

    tensor: _Tensor | None = None


def read_torch(content: bytes) -> dict[str, np.ndarray]:
    """Returns {name: array} of the tensors in a state dict (or in its entry `state_dict`), dtypes as stored, whichever layout.

    Other values are left out. Raises DataError where the file is damaged, asks for anything but tensors, or is a TorchScript
    program. Source of the layouts: torch/serialization.py.
    """
    try:
        if content.startswith(OLD_MAGIC):
            return _read_plain(content)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _read_zip(archive)
    except (*_MALFORMED, RecursionError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"is a damaged PyTorch file ({reason[:120]}); download it again") from error


def _read_zip(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    pickles = [name for name in sizes if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1 or sum(sizes.values()) > MAX_BYTES:
        raise DataError(f"is a zip archive of {sum(sizes.values())} bytes and no state dict of PyTorch; save model.state_dict()")
    root = pickles[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in sizes:
        raise DataError("is a TorchScript program, not tensors; save its state_dict() instead")
    if f"{root}byteorder" in sizes and archive.read(f"{root}byteorder") != b"little":
        raise DataError("holds big-endian tensors; save it on a little-endian machine")
    value = _value(io.BytesIO(archive.read(pickles[0])))
    return _arrays(value, lambda storage: archive.read(f"{root}data/{storage.key}"))


def _read_plain(content: bytes) -> dict[str, np.ndarray]:
    file = io.BytesIO(content)
    _, version, system, value, keys = (_value(file) for _ in range(5))
    if version != 1001 or not system["little_endian"]:
        raise DataError("is a PyTorch file of an unknown version; save it again with torch >= 1.6")
    items = {storage.key: storage.dtype.itemsize for storage in _storages(value)}
    stored = {}
    for key in keys:
        (num,) = struct.unpack("<q", file.read(8))
        # A storage that no tensor uses has no known width, and the next one could not be found.
        start, size = file.tell(), num * items[key]
        if not 0 <= size <= len(content) - start:
            raise DataError("is a truncated PyTorch file; download it again")
        stored[key] = content[start : start + size]
        file.seek(size, io.SEEK_CUR)
    return _arrays(value, lambda storage: stored[storage.key])


def _state(value) -> dict:
    value = value.get("state_dict", value) if isinstance(value, dict) else value
    if not isinstance(value, dict):
        raise DataError("holds no dict of tensors; save model.state_dict()")
    return {name: entry.tensor if isinstance(entry, _Parameter) else entry for name, entry in value.items()}


def _storages(value) -> list[_Storage]:
    return [tensor.storage for tensor in _state(value).values() if isinstance(tensor, _Tensor)]


def _arrays(value, stored) -> dict[str, np.ndarray]:
    return {name: _array(tensor, stored) for name, tensor in _state(value).items() if isinstance(tensor, _Tensor)}


def _array(tensor: _Tensor, stored) -> np.ndarray:
    numbers = np.frombuffer(stored(tensor.storage), tensor.storage.dtype)
    shape, stride = tensor.shape, tensor.stride
    lowest = min((tensor.offset, *shape, *stride))
    last = tensor.offset + sum((num - 1) * step for num, step in zip(shape, stride, strict=True))
    # A stride of 0 would let a few bytes stand for terabytes.
    if lowest < 0 or (0 not in shape and last >= len(numbers)) or math.prod(shape) > len(numbers):
        raise DataError(f"is a damaged PyTorch file (a tensor of shape {str(shape)[:40]} reaches beyond its numbers); download it again")
    view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], shape, [step * numbers.itemsize for step in stride])
    return view.copy()


def _value(file: io.BytesIO):
    """Returns the value that the next pickle in `file` describes; nothing is done before all its instructions have been admitted."""
    instructions = []
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name not in _ADMITTED:
            raise DataError(f"holds the pickle instruction {opcode.name}, which no dict of tensors needs: it is refused, nothing was run")
        if opcode.name == "GLOBAL" and argument not in (_DICT, _PARAMETER, *_REBUILD, *_STORAGES):
            raise DataError(f"asks for {argument.replace(' ', '.')[:80]}, which is no tensor: it is refused, nothing was run")
        if len(instructions) == MAX_INSTRUCTIONS:
            raise DataError(f"holds more than {MAX_INSTRUCTIONS} pickle instructions: it is no dict of tensors")
        instructions.append((opcode.name, argument))
    return _build(instructions)


def _build(instructions):
    stack, outer, memo = [], [], {}
    for name, argument in instructions:
        match name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case "MARK":
                outer.append(stack)
                stack = []
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append(_PLAIN[name])
            case "EMPTY_TUPLE" | "EMPTY_LIST" | "EMPTY_DICT":
                stack.append({"EMPTY_TUPLE": (), "EMPTY_LIST": [], "EMPTY_DICT": {}}[name])
            case "GLOBAL":
                stack.append(_Name(argument))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                num = int(name[-1])
                stack[-num:] = [tuple(stack[-num:])]
            case "TUPLE" | "APPENDS" | "SETITEMS":
                items, stack = stack, outer.pop()
                stack.append(tuple(items)) if name == "TUPLE" else _fill(stack[-1], items)
            case "APPEND":
                _fill(stack[-2], [stack.pop()])
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _fill(stack[-1], [key, value])
            case "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                memo[len(memo) if argument is None else argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "BINPERSID":
                stack.append(_storage(stack.pop()))
            case "REDUCE" | "NEWOBJ":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_reduced(function, arguments))
            case "BUILD":
                # Of a state dict these are version numbers of modules.
                attributes = stack.pop()
                if isinstance(stack[-1], _Parameter) and len(attributes) == 5:
                    stack[-1].tensor = attributes[0]
            case _:
                stack.append(argument)
    raise DataError("is a damaged PyTorch file (its pickle does not end); download it again")


def _fill(target, items: list) -> None:
    if isinstance(target, dict):
        # Keys of nested tuples could take for ever to compare.
        if not all(isinstance(key, str) for key in items[::2]):
            raise TypeError("a name that is no text")
        target.update(zip(items[::2], items[1::2], strict=True))
    elif isinstance(target, list):
        target.extend(items)
    else:
        raise TypeError("items for what is no list or dict")


def _storage(identity) -> _Storage:
    kind, name, key, _, num, *view = identity
    if kind != "storage" or not isinstance(name, _Name) or any(part is not None for part in view):
        raise DataError("refers to something outside the file; save model.state_dict() again with torch >= 1.6")
    return _Storage(_STORAGES[name], str(key), int(num))


def _reduced(function, arguments):
    if not isinstance(function, _Name) or not isinstance(arguments, tuple):
        raise TypeError("a call of what is no function")
    if function == _DICT:
        made = {}
        _fill(made, [part for pairs in arguments[:1] for key, value in pairs for part in (key, value)])
        return made
    if function == _PARAMETER:
        return _Parameter(*arguments[:1])
    if function not in _REBUILD or not isinstance(arguments[0], _Storage):
        raise TypeError(f"a call of {function}")
    storage, offset, shape, stride = arguments[:4]
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, stride)))
