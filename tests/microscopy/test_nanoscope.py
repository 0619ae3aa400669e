"""NanoScope files with known integers come back through the hard value and the sensitivity that their Z scale names."""

import numpy as np
import pytest

from microscopy.channels import label
from microscopy.nanoscope import read_nanoscope
from microscopy.scan import DataError
from tests.microscopy import native_writers as write

KEY = np.random.default_rng(4)
A, B = KEY.integers(-30_000, 30_000, size=(2, 5, 8))
HEIGHT = ("Height", "Trace", "[Sens. Zscan] (0.006713765 V/LSB) 2.5 V", 2, 2, A)
PHASE = ("Phase", "Retrace", "[Sens. Phase] (0.002746582 \u00ba/LSB) 66.0 \u00ba", 2, 2, B)


def test_heights_and_phase_with_direction_and_scale():
    channels = read_nanoscope(write.nanoscope([HEIGHT, PHASE]), 40)
    assert [(label(c), c.unit) for c in channels] == [("Height forward", "nm"), ("Phase backward", "deg")]
    np.testing.assert_allclose(channels[0].pixels, A / 65536 * 2.5 * 8.5, rtol=1e-6)
    np.testing.assert_allclose(channels[1].pixels, B / 65536 * 66, rtol=1e-6)
    assert channels[0].nm_per_pixel == pytest.approx((100, 125))


def test_four_bytes_from_version_9_2_on_scaled_by_the_bytes_stated():
    image = ("Height Sensor", "Trace", "[Sens. Zscan] (0.0067 V/LSB) 2.5 V", 2, 4, A * 70_000)
    (channel,) = read_nanoscope(write.nanoscope([image], version="0x09300201", size="1000 500 nm"), 40)
    np.testing.assert_allclose(channel.pixels, A * 70_000 / 65536 * 2.5 * 8.5, rtol=1e-6)
    wide = (*image[:3], 4, *image[4:])
    (channel,) = read_nanoscope(write.nanoscope([wide], version="0x09300201"), 40)
    np.testing.assert_allclose(channel.pixels, A * 70_000 / 2.0**32 * 2.5 * 8.5, rtol=1e-6)


@pytest.mark.parametrize(
    "sens, scale, factor, unit",
    [
        (("Zscan", "8.5 nm/mV"), "[Sens. Zscan] (0.0067 V/LSB) 2.5 V", 2.5 * 8.5e3, "nm"),
        (("Zscan", "0.0085 ~m/V"), "[Sens. Zscan] (0.0067 V/LSB) 2.5 V", 2.5 * 0.0085, "um"),
        (("Zscan", "8.5 nm/V"), "[Sens. Amplitude] (0.0067 V/LSB) 2.5 V", 2.5, "V"),
        (("Zscan", "8.5 nm/V"), "[Sens. Zscan] (0.0067 V/LSB) 2.5 A", 2.5, "A"),
        (("Amplitude", "3.0 "), "[Sens. Amplitude] (0.0067 mV/LSB) 2.5 mV", 7.5, "mV"),
        (("Zscan", "8.5 nm/V"), "(0.0067 V/LSB) 2.5 V", 2.5, "V"),
        (("LogModulus", "1.0 log(Pa)/V"), "[Sens. LogModulus] (0.00012 log(Pa)/LSB) 2.5 V", 2.5, "log(Pa)"),
    ],
)
def test_sensitivities_and_signals_without_one(sens, scale, factor, unit):
    (channel,) = read_nanoscope(write.nanoscope([("Signal", "Trace", scale, 2, 2, A)], sens=sens), 40)
    np.testing.assert_allclose(channel.pixels, A / 65536 * factor, rtol=1e-6)
    assert channel.unit == unit


def test_old_scales_low_pictures_and_sizes_kept_with_the_scan():
    old = write.nanoscope([HEIGHT], changes=[("\\@2:Z scale: V [Sens. Zscan] (0.006713765 V/LSB) 2.5 V", "\\Z scale: 20 nm")])
    np.testing.assert_allclose(read_nanoscope(old, 40)[0].pixels, A / 65536 * 20, rtol=1e-6)
    low = write.nanoscope([HEIGHT], size="800 nm", changes=[("Aspect ratio: 1:1", "Aspect ratio: 2:1")])
    assert read_nanoscope(low, 40)[0].nm_per_pixel == pytest.approx((100, 100))
    wrong = write.nanoscope([HEIGHT], general=["\\Samps/line: 8", "\\Lines: 5"], changes=[("\\Number of lines: 5", "\\Number of lines: 9")])
    np.testing.assert_allclose(read_nanoscope(wrong, 40)[0].pixels, A / 65536 * 2.5 * 8.5, rtol=1e-6)


@pytest.mark.parametrize(
    "old, new, words",
    [
        ("Data offset: 8192", "Data offset: 2147483648", "at 2147483648"),
        ("Data offset: 8192", "Data offset: -8192", "data offset as '-8192'"),
        ("Samps/line: 8", "Samps/line: 2147483648", "max_pixels"),
        ("Samps/line: 8", "Samps/line: 0", "declares 0 x 5"),
        ("Number of lines: 5", "Number of lines: 50", "in 80 bytes"),
        ("Data offset: 8272", "Data offset: 8192", None),
        ("Bytes/pixel: 2", "Bytes/pixel: 9", "9 bytes a pixel"),
        ("Scan size: 1 0.5 ~m", "Scan size: 0 0 ~m", "a scan of 0 x 0 um"),
        ("Scan size: 1 0.5 ~m", "Scan size: 1 nan ~m", "Scan size as 'nan'"),
        ("Scan size: 1 0.5 ~m", "Scan size: ", "Scan size as ''"),
        ("2.5 V", "--- V", "Z scale"),
        ("*File list end", "*File list and", "no end of header"),
    ],
)
def test_headers_that_cannot_be(old, new, words):
    content = write.nanoscope([HEIGHT, PHASE], changes=[(old, new)])
    if words is None:
        assert all(c.pixels.shape == (5, 8) for c in read_nanoscope(content, 1000))
        return
    with pytest.raises(DataError, match=words):
        read_nanoscope(content, 1000)


def test_force_curves_text_transfers_and_truncations():
    content = write.nanoscope([HEIGHT])
    for changed, words in (
        (b"?" + content[1:], "text form"),
        (content.replace(b"\\*File list", b"\\*Force file list", 1), "force curves"),
        (content.replace(b"\r\n", b"\n"), "line ends"),
        (content.replace(b"Ciao image list", b"Ciao force image list"), "0 images"),
        (content.replace(b"\\Data length: 80", b"\\Data length: 79"), "in 79 bytes"),
    ):
        with pytest.raises(DataError, match=words):
            read_nanoscope(changed, 1000)
    for cut in [*range(12, 2000, 97), len(content) - 1]:
        with pytest.raises(DataError):
            read_nanoscope(content[:cut], 1000)


def test_images_that_all_point_at_the_same_values_do_not_multiply():
    image = ("Height", "Trace", "[Sens. Zscan] (0.0067 V/LSB) 2.5 V", 2, 2, KEY.integers(-9, 9, size=(60, 60)))
    changes = [(f"\\Data offset: {8192 + i * 7200}", "\\Data offset: 8192") for i in range(1, 9)]
    content = write.nanoscope([image] * 9, changes=changes)[: 8192 + 7200]
    with pytest.raises(DataError, match="overlap"):
        read_nanoscope(content, 10_000)
