"""Three hundred damaged or hostile files: each gives a whole image or a DataError that names it, soon and in little memory."""

import contextlib
import functools
import io
import resource
import struct
import time
import zlib

import cv2
import numpy as np
import pytest

from microscopy.formats import read_image
from microscopy.scan import DataError

MAX_PIXELS = 40_000
HEADROOM = 2**28  # bytes: the reader's own 64 MiB for a file, twice over, and the interpreter


@contextlib.contextmanager
def limited_memory():
    """Any allocation beyond HEADROOM fails while this lasts, in OpenCV's libraries too."""
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + HEADROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def sound_files():
    key = np.random.default_rng(0)
    grey, colour = key.integers(256, size=(40, 50), dtype=np.uint8), key.integers(256, size=(40, 50, 3), dtype=np.uint8)
    smooth = cv2.GaussianBlur(colour, (9, 9), 3)
    files = {
        "grey.png": cv2.imencode(".png", grey)[1].tobytes(),
        "deep.png": cv2.imencode(".png", grey.astype(np.uint16) * 257)[1].tobytes(),
        "colour.png": cv2.imencode(".png", colour)[1].tobytes(),
        "base.jpg": cv2.imencode(".jpg", smooth)[1].tobytes(),
        "progressive.jpg": cv2.imencode(".jpg", smooth, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes(),
        "restart.jpg": cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_RST_INTERVAL, 1])[1].tobytes(),
        "lzw.tif": cv2.imencode(".tif", colour)[1].tobytes(),
        "plain.tif": cv2.imencode(".tif", grey, [cv2.IMWRITE_TIFF_COMPRESSION, 1])[1].tobytes(),
        "deflate.tif": cv2.imencode(".tif", grey, [cv2.IMWRITE_TIFF_COMPRESSION, 8])[1].tobytes(),
        "float.tif": cv2.imencode(".tif", grey.astype(np.float32))[1].tobytes(),
    }
    for name, array in {"float.npy": grey.astype(np.float64), "short.npy": grey.astype(np.int16)}.items():
        buffer = io.BytesIO()
        np.save(buffer, array)
        files[name] = buffer.getvalue()
    return files


def damaged(content, key, kind):
    content = bytearray(content)
    if kind == "truncated":
        return bytes(content[: key.integers(len(content))])
    if kind == "flipped":
        for _ in range(key.integers(1, 9)):
            content[key.integers(len(content))] ^= 1 << key.integers(8)
    if kind == "header":
        # The first bytes and, for TIFF, the directory at the end: where sizes and offsets stand.
        low, high = (len(content) - 240, len(content)) if content[:2] == b"II" and key.random() < 0.8 else (4, 130)
        for _ in range(key.integers(1, 7)):
            content[key.integers(low, min(high, len(content)))] = key.choice([0, 1, 0x7F, 0x80, 0xFF, key.integers(256)])
    if kind == "zeroed":
        start = key.integers(len(content))
        content[start : start + 64] = bytes(len(content[start : start + 64]))
    if kind == "shuffled":
        middle = key.integers(1, len(content))
        content = content[middle:] + content[:middle]
    return bytes(content)


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, data, colour=0):
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def npy(header, data=b""):
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text + data


def zeros_deflated(size):
    deflater = zlib.compressobj(9)
    parts = [deflater.compress(bytes(min(2**20, size - start))) for start in range(0, size, 2**20)]
    return b"".join([*parts, deflater.flush()])


@functools.cache
def hostile_files():
    bomb = zeros_deflated(20_000 * 20_001)
    nan = cv2.imencode(".tif", np.full((9, 9), np.nan, np.float32))[1].tobytes()
    zeros = cv2.imencode(".tif", np.zeros((2000, 2000), np.uint8), [cv2.IMWRITE_TIFF_COMPRESSION, 8])[1].tobytes()
    files = {
        "empty.png": b"",
        "bomb.png": png(20_000, 20_000, bomb),
        "bomb_in_small.png": png(200, 200, bomb),
        "giant_header.png": png(2**31 - 1, 2**31 - 1, b""),
        "many_chunks.png": png(9, 9, b"")[:33] + chunk(b"tEXt", b"") * 400_000,
        "long_chunk.png": png(9, 9, b"")[:33] + b"\xff\xff\xff\xffIDAT",
        "bomb.tif": zeros,
        "nan.tif": nan,
        "padding.jpg": b"\xff\xd8" + b"\xff" * 3_000_000,
        "empty_segments.jpg": b"\xff\xd8" + b"\xff\xe2\0\x02" * 700_000,
        "endless_scan.jpg": b"\xff\xd8\xff\xda\0\x02" + b"\xff\0" * 1_500_000,
        "no_length.jpg": b"\xff\xd8\xff\xe0\0\0\xff\xd9",
        "pages.tif": b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 254, 4, 1, 1, 8),
        "count.tif": b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 256, 4, 2**32 - 1, 0, 0),
        "directory.tif": b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**63),
        "shape.npy": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }"),
        "digits.npy": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (%s, 2), }" % ("9" * 50)),
        "run_of_digits.npy": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (%s" % ("9" * 4000)),
        "pickle.npy": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 1), }", b"\x80\x04cos\nsystem\n(S'false'\ntR."),
        "code.npy": npy("__import__('os').abort()"),
        "nested.npy": npy("{" + "(" * 100 + "}"),
        "key.npy": npy("{[]: (1, 2), 'shape': 3}"),
        "nan.npy": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }", struct.pack("<ff", np.nan, 1)),
        "text.tif": b"time,height\n0,1\n",
        "magic.png": b"\x89PNG\r\n\x1a\n",
        "magic.jpg": b"\xff\xd8\xff",
        "magic.tif": b"II*\0",
        "magic.npy": b"\x93NUMPY",
    }
    return files


def all_files():
    files, key = dict(hostile_files()), np.random.default_rng(7)
    sound = sound_files()
    kinds = ("truncated", "flipped", "header", "zeroed", "shuffled")
    for number in range(300 - len(files)):
        name = list(sound)[number % len(sound)]
        files[f"{kinds[number // len(sound) % 5]}_{number}_{name}"] = damaged(sound[name], key, kinds[number // len(sound) % 5])
    return sound, files


def outcome(path):
    try:
        return read_image(path, max_pixels=MAX_PIXELS)
    except DataError as error:
        assert str(error).startswith(f"{path}: ") and len(str(error).splitlines()) == 1 and "memory" not in str(error)
        return str(error)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    sound, files = all_files()
    for name, content in (sound | files).items():
        (folder / name).write_bytes(content)
    results, seconds = {}, {}
    with limited_memory():
        for name in sound | files:
            start = time.perf_counter()
            results[name] = outcome(folder / name)
            seconds[name] = time.perf_counter() - start
    return sound, files, results, seconds


def test_sound_files_are_read(outcomes):
    sound, _, results, _ = outcomes
    assert all(isinstance(results[name], np.ndarray) and results[name].shape[:2] == (40, 50) for name in sound)


def test_every_outcome_is_an_image_or_an_error_that_names_the_file(outcomes):
    _, files, results, _ = outcomes
    assert len(files) == 300
    for name in files:
        if isinstance(results[name], np.ndarray):
            pixels = results[name]
            assert pixels.dtype in (np.uint8, np.uint16, np.float32) and pixels.ndim in (2, 3)
            assert 0 < pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS and (pixels.ndim == 2 or pixels.shape[2] == 3)
            assert np.isfinite(pixels).all()
    assert 50 < sum(isinstance(results[name], np.ndarray) for name in files) < 200  # both ends of the road are taken


def test_hostile_files_are_refused(outcomes):
    results = outcomes[2]
    for name in hostile_files():
        assert isinstance(results[name], str), name
    for name in ("bomb.png", "giant_header.png", "bomb.tif", "shape.npy"):
        assert "max_pixels" in results[name], results[name]
    assert "PNG chunks" in results["many_chunks.png"] and "does not fill" in results["bomb_in_small.png"]
    assert "NaN" in results["nan.tif"] and "NaN" in results["nan.npy"]


def test_damaged_png_is_refused_and_truncation_of_any_kind_too(outcomes):
    sound, files, results, _ = outcomes
    read = [name for name in files if isinstance(results[name], np.ndarray)]
    assert not [name for name in read if name.startswith("truncated")]
    unchanged = set(sound.values())
    assert not [name for name in read if name.endswith(".png") and files[name] not in unchanged]


def test_no_file_takes_long(outcomes):
    seconds = outcomes[3]
    slowest = max(seconds, key=seconds.get)
    assert seconds[slowest] < 2, slowest
