"""A folder of instruments' files: heights in nm with their scale, channels by name, unfinished scans cut."""

import numpy as np
import pytest

from configs import dcgan
from microscopy import preparation
from microscopy.folder import read_folder
from microscopy.scan import DataError
from microscopy.writing import encode_gwy, encode_tiff
from tests.microscopy import native_writers as write

LIMIT = 10_000
KEY = np.random.default_rng(0)
Z, CURRENT = KEY.normal(size=(2, 12, 15)).astype(np.float32)


def sxm(height=Z):
    return write.sxm(
        [("Z", "m", "both", (height * np.float32(1e-9), height * np.float32(2e-9))), ("Current", "A", "forward", (CURRENT,))],
        range_m=(30e-9, 36e-9),
    )


def test_heights_in_nm_with_channel_and_scale(tmp_path):
    (tmp_path / "a.sxm").write_bytes(sxm())
    (tmp_path / "b.gwy").write_bytes(encode_gwy(Z, (3.0, 2.0), "Height"))
    (tmp_path / "c.tif").write_bytes(encode_tiff(Z, (3.0, 2.0), "nm"))
    (tmp_path / "d.007").write_bytes(
        write.nanoscope([("Height", "Retrace", "[Sens. Zscan] (0.0067 V/LSB) 2.5 V", 2, 2, (Z * 99).astype(int))])
    )
    (tmp_path / "e.008").write_bytes(b"another program's eighth file")
    scans, refused = read_folder(tmp_path, max_pixels=LIMIT)
    assert [(s.id, s.unit, s.channel, s.note) for s in scans] == [
        ("a", "nm", "Z forward", ""), ("b", "nm", "Height", ""), ("c", "nm", "", ""), ("d", "nm", "Height backward", ""),
    ]  # fmt: skip
    for scan in scans[:3]:
        np.testing.assert_allclose(scan.pixels, Z, rtol=3e-7)
        assert scan.nm_per_pixel == pytest.approx((3, 2)) and scan.group is None
    np.testing.assert_array_equal(scans[2].pixels, Z)
    assert not refused


def test_a_channel_by_name_and_a_scale_of_ones_own(tmp_path):
    (tmp_path / "a.sxm").write_bytes(sxm())
    (scan,), _ = read_folder(tmp_path, max_pixels=LIMIT, channel="current", nm_per_pixel=(7, 8))
    np.testing.assert_array_equal(scan.pixels, CURRENT)
    assert (scan.unit, scan.channel, scan.nm_per_pixel) == ("A", "Current forward", (7, 8))
    (scan,), _ = read_folder(tmp_path, max_pixels=LIMIT, channel="Z backward")
    np.testing.assert_allclose(scan.pixels, 2 * Z, rtol=3e-7)
    (tmp_path / "b.npy").write_bytes(b"")
    np.save(tmp_path / "b.npy", Z)
    with pytest.raises(DataError, match=r"b\.npy: has no named channels"):
        read_folder(tmp_path, max_pixels=LIMIT, channel="Z")
    scans, refused = read_folder(tmp_path, max_pixels=LIMIT, channel="Z", skip_bad=True)
    assert [s.id for s in scans] == ["a"] and refused[0].reason.startswith("has no named channels")


def test_the_channel_of_a_config_is_taken(tmp_path):
    (tmp_path / "a.sxm").write_bytes(sxm())
    data = dcgan.data(32)
    data.source, data.channel = f"folder:{tmp_path}", "Z backward"
    (scan,), _ = preparation.load_scans(data)
    assert (scan.channel, scan.unit) == ("Z backward", "nm")
    np.testing.assert_allclose(scan.pixels, 2 * Z, rtol=3e-7)


def test_unfinished_lines_are_cut_from_scan_and_mask_and_noted(tmp_path):
    height = Z.copy()
    height[9:] = np.nan
    (tmp_path / "a.sxm").write_bytes(sxm(height))
    (tmp_path / "masks").mkdir()
    ids = KEY.integers(5, size=(12, 15), dtype=np.uint8)
    np.save(tmp_path / "masks/a.npy", ids)
    (scan,), _ = read_folder(tmp_path, max_pixels=LIMIT, margins=(1, 0, 2, 0))
    assert scan.note == "unfinished: 3 at the bottom of 12 lines cut off"
    np.testing.assert_allclose(scan.pixels, Z[1:7], rtol=3e-7)
    np.testing.assert_array_equal(scan.mask, ids[1:7])
    np.save(tmp_path / "masks/a.npy", ids[:9])  # made of the scan as it is read
    np.testing.assert_array_equal(read_folder(tmp_path, max_pixels=LIMIT)[0][0].mask, ids[:9])
    np.save(tmp_path / "masks/a.npy", ids[:8])
    with pytest.raises(DataError, match="differ in size"):
        read_folder(tmp_path, max_pixels=LIMIT)
    height[4:] = np.nan
    (tmp_path / "a.sxm").write_bytes(sxm(height))
    with pytest.raises(DataError, match=r"a\.sxm: is unfinished: 4 of 12 lines"):
        read_folder(tmp_path, max_pixels=LIMIT)


def test_instrument_files_of_one_stem_keep_their_names_and_stay_on_one_side(tmp_path):
    (tmp_path / "gold").mkdir()
    for name, content in (("x.stp", write.wsxm(Z)), ("x.top", write.wsxm((Z * 99).astype(int), "short")), ("y.sxm", sxm())):
        (tmp_path / "gold" / name).write_bytes(content)
    scans, _ = read_folder(tmp_path, max_pixels=LIMIT)
    assert [(s.id, s.group, s.label) for s in scans] == [
        ("gold/x.stp", "gold/x", "gold"),
        ("gold/x.top", "gold/x", "gold"),
        ("gold/y", None, "gold"),
    ]
    np.save(tmp_path / "gold/y.npy", Z)  # most likely an export of the same scan
    with pytest.raises(DataError, match=r"has the same stem"):
        read_folder(tmp_path, max_pixels=LIMIT)


def test_a_damaged_file_is_refused_by_name(tmp_path):
    (tmp_path / "a.sxm").write_bytes(sxm())
    (tmp_path / "b.sxm").write_bytes(sxm()[:-1])
    with pytest.raises(DataError, match=r"b\.sxm: is a truncated Nanonis scan"):
        read_folder(tmp_path, max_pixels=LIMIT)
    scans, refused = read_folder(tmp_path, max_pixels=LIMIT, skip_bad=True)
    assert [s.id for s in scans] == ["a"] and refused[0].file.endswith("b.sxm") and refused[0].reason.startswith("is a truncated")


def test_the_real_folder_is_read_whole(real_data):
    folder = real_data / "spm-native"
    if not folder.is_dir():
        pytest.skip(f"no spm-native in {real_data}: see docs/data.md")
    scans, refused = read_folder(folder, max_pixels=10**6)
    measured = [s for s in scans if s.unit == "nm"]
    assert len(scans) == 14 and len(measured) == 10 and not refused
    assert all(s.nm_per_pixel and s.pixels.dtype == np.float32 and np.isfinite(s.pixels).all() for s in measured)
    assert {s.group for s in scans} == {None, "jpk_file", "wsxm_file"}
