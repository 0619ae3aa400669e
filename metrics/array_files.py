"""Tables of features and stacks of images in .npy and .npz files, checked before they are read."""

import math
import pathlib
import tokenize
import zipfile
import zlib

import numpy as np

from microscopy.formats import as_pixels
from microscopy.scan import DataError

MAX_BYTES = 2**33
_REMEDY = "save features as (n, d), or images as (n, h, w) or (n, h, w, 3), with numpy.save"


def read_array(path: pathlib.Path, layer: str) -> np.ndarray:
    """Returns the array of a .npy file, or one of a .npz file: `images`, else LAYER or fLAYER (`f768`), else its only one.

    Raises DataError naming the file and the remedy: not readable, pickled, damaged, more than 8 GiB unpacked, no array or several
    of other names.
    """
    try:
        with open(path, "rb") as file:
            if path.suffix.lower() == ".npy":
                _check_npy(file)
                file.seek(0)
                return np.load(file, allow_pickle=False)
            with np.load(file, allow_pickle=False) as stored:
                _check_size(sum(entry.file_size for entry in stored.zip.infolist()))
                name = _name(stored.files, layer)
                with stored.zip.open(f"{name}.npy") as inner:
                    _check_npy(inner)
                return stored[name]
    except DataError as error:
        raise DataError(f"{path}: {error}.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the path and its permissions.") from None
    except _DAMAGE:
        # AttributeError: np.load took a file of another kind for a single array.
        raise DataError(f"{path}: is damaged, pickled or no {path.suffix} file; {_REMEDY}.") from None


_DAMAGE = (ValueError, EOFError, SyntaxError, AttributeError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)
_DAMAGE += (KeyError, MemoryError, RecursionError, TypeError, OverflowError, tokenize.TokenError)


def _check_npy(file) -> None:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    _check_size(math.prod(shape) * dtype.itemsize)


def _check_size(num_bytes: int) -> None:
    if num_bytes > MAX_BYTES:
        raise DataError(f"unpacks to {num_bytes} bytes, {MAX_BYTES} at most; give fewer rows, or images in a folder")


def _name(names: list[str], layer: str) -> str:
    for name in ("images", layer, f"f{layer}"):
        if name in names:
            return name
    if len(names) != 1:
        shown = ", ".join(names[:8]) or "none"
        raise DataError(f"holds the arrays {shown}; name one 'images' or 'f{layer}', or choose by --features")
    return names[0]


def as_images(array: np.ndarray) -> list[np.ndarray]:
    """Returns the images of an array (n, h, w), (n, h, w, 1) or (n, h, w, 3), as `formats.as_pixels` keeps them.

    Raises DataError, without a file's name, for another shape, no image, a type or value no image has.
    """
    single = array.ndim == 3 and array.shape[-1] == 3
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[-1] not in (1, 3)) or single:
        raise DataError(f"holds an array of shape {array.shape}{' (one image of three colours?)' if single else ''}; {_REMEDY}")
    if 0 in array.shape:
        raise DataError(f"holds an empty array of shape {array.shape}; {_REMEDY}")
    pixels = as_pixels(array[..., 0] if array.ndim == 4 and array.shape[-1] == 1 else array)
    return list(pixels)
