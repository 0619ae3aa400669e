"""Hundreds of damaged or hostile instrument files: each gives sane channels or a DataError that names it, soon, in little memory."""

import io
import re
import struct
import time
import tracemalloc

import numpy as np
import pytest
import tifffile

from microscopy.native import read_channels
from microscopy.scan import DataError
from tests.microscopy import native_writers as write

MAX_PIXELS = 4_000
SHAPE = (40, 50)
KINDS = ("truncated", "flipped", "header", "number", "words", "zeroed", "shuffled", "doubled")
READABLE = (  # nothing wrong with their pixels
    "labels.ibw", "digits.sxm", "spaces.stp", "spaces.gwy", "pixels.tif", "attributes.tif", "resolution.tif", "name.nid",
)  # fmt: skip
NUMBERS = (b"0", b"-1", b"2147483648", b"-2147483648", b"4294967296", b"99999999999999999999", b"nan", b"1e308", b"")


def sound_files():
    key = np.random.default_rng(0)
    a, b = key.normal(size=(2, *SHAPE)).astype(np.float32) * np.float32(1e-9)
    n, m = key.integers(-30_000, 30_000, size=(2, *SHAPE))
    scale = "[Sens. Zscan] (0.0067 V/LSB) 2.5 V"
    return {
        "down.sxm": write.sxm([("Z", "m", "both", (a, b)), ("Current", "A", "both", (b, a))]),
        "up.sxm": write.sxm([("Z", "m", "both", (a, b)), ("Phase", "deg", "forward", (b,))], direction="up"),
        "two.gwy": write.gwy([write.gwy_field(a), write.gwy_field(b)], ["Z", "Phase"]),
        "little.ibw": write.ibw({"HeightTrace": a, "PhaseTrace": b}),
        "big.ibw": write.ibw({"HeightTrace": a, "PhaseTrace": b}, order=">", kind=(4, "d")),
        "short.nid": write.nid([("Scan forward", "Z-Axis", "m", n), ("Scan backward", "Z-Axis", "m", m)]),
        "long.nid": write.nid([("Scan forward", "Z-Axis", "m", n), ("Spec forward", "D", "N", m)], bits=32),
        "two.spm": write.nanoscope([("Height", "Trace", scale, 2, 2, n), ("Height", "Retrace", scale, 2, 2, m)]),
        "long.007": write.nanoscope([("Height", "Trace", scale, 2, 4, n), ("Phase", "Trace", scale, 4, 4, m)], version="0x09300201"),
        "double.stp": write.wsxm(a),
        "short.top": write.wsxm(n, "short"),
        "float.tiff": write.park(a),
        "short.tiff": write.park(n, kind=0),
        "little.jpk": write.jpk([("height", 0, "m", 1e-15, 0.0, n), ("phase", 1, "deg", 1e-3, 0.0, m)], order="<"),
        "big.jpk": write.jpk([("height", 0, "m", 1e-15, 0.0, n), ("phase", 1, "deg", 1e-3, 0.0, m)]),
    }


def damaged(content, key, kind):
    content = bytearray(content)
    size = len(content)
    if kind == "truncated":
        return bytes(content[: key.integers(size)])
    if kind == "flipped":
        for _ in range(key.integers(1, 9)):
            content[key.integers(size)] ^= 1 << key.integers(8)
    if kind == "header":  # where sizes and offsets stand; TIFF's directories lie anywhere
        places = (
            [m.start() for m in re.finditer(rb"\x00[\x00-\x90]", bytes(content))]
            if content[:2] in (b"II", b"MM")
            else range(min(900, size))
        )
        for _ in range(key.integers(1, 9)):
            content[places[key.integers(len(places))]] = key.choice([0, 1, 0x7F, 0x80, 0xFF, key.integers(256)])
    if kind == "number":  # a number in a text header
        found = [m.span() for m in re.finditer(rb"(?<=[ =\t])-?\d[\d.E+-]*", bytes(content[:9000]))]
        if found:
            first, last = found[key.integers(len(found))]
            content[first:last] = NUMBERS[key.integers(len(NUMBERS))]
    if kind == "words":  # an aligned integer somewhere in the first or last kilobyte
        for _ in range(key.integers(1, 4)):
            place = int(key.integers(4, 400) if key.random() < 0.6 else key.integers(size - 900, size - 4)) & ~1
            content[place : place + 4] = key.choice(
                [b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xff\xff\xff\xff"]
            )
    if kind == "zeroed":
        start = key.integers(size)
        content[start : start + 64] = bytes(len(content[start : start + 64]))
    if kind == "shuffled":
        middle = key.integers(1, size)
        content = content[middle:] + content[:middle]
    if kind == "doubled":
        start = key.integers(size - 200)
        content[start:start] = content[start : start + key.integers(1, 200)]
    return bytes(content)


def described(text):
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros(SHAPE, np.float32), description=text, metadata=None)
    return file.getvalue()


def hostile_files():
    tiff = write.jpk([("height", 0, "m", 1e-15, 0.0, np.zeros(SHAPE, int))], order="<")
    (first,) = struct.unpack_from("<I", tiff, 4)
    loop = bytearray(tiff)
    (count,) = struct.unpack_from("<H", tiff, first)
    (second,) = struct.unpack_from("<I", tiff, first + 2 + 12 * count)
    (count,) = struct.unpack_from("<H", tiff, second)
    struct.pack_into("<I", loop, second + 2 + 12 * count, second)  # the channel's page is followed by itself
    rows = "".join(f"\t{i}\tZ{i}\tm\tboth\t1\t0\n" for i in range(300_000))
    sxm = write.sxm([("Z", "m", "both", (np.zeros(SHAPE), np.zeros(SHAPE)))])
    return {
        "loop.jpk": bytes(loop),
        "channels.sxm": sxm.replace(b"\n\n:SCANIT_END:", rows.encode() + b"\n:SCANIT_END:"),
        "lines.sxm": b":NANONIS_VERSION:\n" + b":A:\n" * 300_000 + b":SCANIT_END:\x1a\x04",
        "colons.sxm": b":NANONIS_VERSION:" + b":" * 500_000 + b":SCANIT_END:\x1a\x04",
        "groups.nid": b"[DataSet]\r\nGroupCount=999\r\n" + b"Gr1-Count=999999\r\n" * 9 + b"#!",
        "sections.nid": b"[DataSet]\r\n" + b"[x]\r\na=1\r\n" * 100_000 + b"#!",
        "lists.spm": b"\\*File list\r\n" + b"\\*Ciao image list\r\n" * 100_000 + b"\\*File list end\r\n",
        "brackets.spm": write.nanoscope(
            [("Height", "Trace", "[" * 3000, 2, 2, np.zeros(SHAPE, int))], changes=[("Data offset: 8192", "Data offset: 1")]
        ),
        "digits.sxm": sxm.replace(b"0.000E+0\n:SCAN_DIR", b"1" * 10**6 + b"x\n:SCAN_DIR").replace(b"-4.000E-1", b"1" * 10**6 + b"x"),
        "range.sxm": sxm.replace(b"2.000000E-08", b"1" * 10**6),
        "spaces.stp": write.wsxm(np.zeros(SHAPE), z="60 nm" + " " * 10**6 + "x", x="5 n" + " " * 10**6 + "x"),
        "image_data.spm": write.nanoscope([("[" * 10**6, "Trace", "[Sens. Zscan] (0.0067 V/LSB) 2.5 V", 2, 2, np.zeros(SHAPE, int))]),
        "spaces.gwy": write.gwy([write.gwy_field(np.zeros(SHAPE))], [" " * 10**6 + "x" + " " * 10**6 + "("]),
        "pixels.tif": described("<OME" + "<Pixels " * 100_000),
        "attributes.tif": described("<OME><Pixels " + "a" * 10**6 + ">"),
        "resolution.tif": described("ImageJ=1\nunit=" + " " * 10**6 + "n\n" + "=\n" * 10**5),
        "name.nid": write.nid([("Scan forward", " x" * 10**6, "m", np.zeros(SHAPE, int))]),
        "nested.gwy": b"GWYP" + b"GwyContainer\0\xff\xff\0\0/0/data\0o" * 20_000,
        "strings.gwy": b"GWYP" + write.gwy_object("GwyContainer", b"/n\0S\xff\xff\x01\0" + b"\0" * 10**6),
        "labels.ibw": write.ibw({"H" * 31: np.zeros(SHAPE)}, note=b"x" * 10**6),
        "size.stp": write.wsxm(np.zeros(SHAPE), changes=[("columns: 50", "columns: 2147483648"), ("rows: 40", "rows: 2147483648")]),
        "product.stp": write.wsxm(np.zeros(SHAPE), changes=[("columns: 50", "columns: 4294967296"), ("rows: 40", "rows: 4294967296")]),
    }


def all_files():
    files, key, sound = hostile_files(), np.random.default_rng(11), sound_files()
    for number in range(600):
        name, kind = list(sound)[number % len(sound)], KINDS[number // len(sound) % len(KINDS)]
        files[f"{kind}_{number}_{name}"] = damaged(sound[name], key, kind)
    return sound, files


def outcome(content, name):
    """Returns (channels or the error's words, seconds, peak of traced memory in bytes)."""
    tracemalloc.reset_peak()
    before, start = tracemalloc.get_traced_memory()[0], time.perf_counter()
    try:
        result = read_channels(content, name, max_pixels=MAX_PIXELS)
    except DataError as error:
        assert str(error).startswith(f"{name}: ") and len(str(error).splitlines()) == 1 and len(str(error)) < 400
        result = str(error)
    return result, time.perf_counter() - start, tracemalloc.get_traced_memory()[1] - before


def check(content, result, seconds, peak):
    assert seconds < 3
    # Pixels of the limit's size in double precision and a few copies, and what the file itself holds, decoded.
    assert peak < 16 * 8 * MAX_PIXELS + 12 * len(content) + 2**20, peak
    if not isinstance(result, str):
        assert result and sum(channel.pixels.nbytes for channel in result) <= 4 * len(content)
        for channel in result:
            assert channel.pixels.ndim in (2, 3) and 0 < channel.pixels.shape[0] * channel.pixels.shape[1] <= MAX_PIXELS
            assert channel.nm_per_pixel is None or all(0 < size < np.inf for size in channel.nm_per_pixel)


@pytest.fixture(scope="module")
def outcomes():
    sound, files = all_files()
    tracemalloc.start()
    try:
        results = {name: outcome(content, name) for name, content in (sound | files).items()}
    finally:
        tracemalloc.stop()
    return sound, files, results


def test_sound_files_are_read(outcomes):
    sound, _, results = outcomes
    for name in sound:
        assert not isinstance(results[name][0], str), results[name][0]
        assert all(channel.pixels.shape == SHAPE for channel in results[name][0])


def test_every_outcome_is_sane_or_an_error_that_names_the_file(outcomes):
    sound, files, results = outcomes
    assert len(files) > 600
    for name, content in files.items():
        check(content, *results[name])
    refused = [name for name in files if isinstance(results[name][0], str)]
    assert 300 < len(refused) < len(files) - 50  # both ends of the road are taken
    for kind in KINDS:
        assert any(name.startswith(kind) for name in refused)


def test_hostile_files_are_refused(outcomes):
    results = outcomes[2]
    for name in hostile_files():
        assert isinstance(results[name][0], str) or name in READABLE, name
    for name in ("size.stp", "product.stp"):
        assert "max_pixels" in results[name][0]


def test_truncation_shows_unless_nothing_of_the_pixels_is_cut(outcomes):
    sound, files, results = outcomes
    for name in files:
        if name.startswith("truncated") and not isinstance(results[name][0], str):
            whole = results[name.split("_", 2)[2]][0]
            assert name.endswith((".tiff", ".ibw")), name  # a preview, labels at the end
            for channel, original in zip(results[name][0], whole, strict=True):
                np.testing.assert_array_equal(channel.pixels, original.pixels)


def test_real_files_damaged(real_data):
    folder = real_data / "spm-native"
    if not folder.is_dir():
        pytest.skip(f"no spm-native in {real_data}: see docs/data.md")
    key, counts = np.random.default_rng(5), {True: 0, False: 0}
    paths = sorted(path for path in folder.iterdir() if path.suffix not in (".npy", ".md", ".sha256"))
    for path in paths:
        content = path.read_bytes()
        for kind in KINDS:
            name = f"{kind}_{path.name}"
            try:
                channels = read_channels(damaged(content, key, kind), name, max_pixels=300_000)
            except DataError as error:
                assert str(error).startswith(f"{name}: ") and len(str(error).splitlines()) == 1
                counts[False] += 1
            else:
                assert all(0 < channel.pixels.size <= 300_000 for channel in channels)
                counts[True] += 1
    assert min(counts.values()) > 10, counts
