"""Real instruments' files against values that other readers published, and against themselves: previews, both scan directions."""

import numpy as np
import pytest
import tifffile

from microscopy.channels import Channel, choose, label, to_nm
from microscopy.levelling import level
from microscopy.native import list_channels

LIMIT = 10**7


@pytest.fixture(scope="module")
def channels(real_data):
    folder = real_data / "spm-native"
    if not folder.is_dir():
        pytest.skip(f"no spm-native in {real_data}: see docs/data.md")
    kept = {}

    def read(file: str) -> list[Channel]:
        if file not in kept:
            kept[file] = list_channels(folder / file, max_pixels=LIMIT)
        return kept[file]

    read.folder = folder
    return read


def correlation(a, b):
    return float(np.corrcoef(np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel())[0, 1])


def turned(picture):
    return {"as it is": picture, "upside down": picture[::-1], "mirrored": picture[:, ::-1], "half a turn": picture[::-1, ::-1]}


# The table of the set's README, read with public readers: file, channel, unit, shape, min, max, mean.
README = [
    ("nanonis_Si_7x7_012.sxm", "Z", "m", (256, 256), -4.5663466e-08, -4.1215038e-08, -4.3233708e-08),
    ("nanonis_Si_7x7_012.sxm", "Current", "A", (256, 256), 3.6006885e-11, 7.0571338e-10, 3.0526723e-10),
    ("nanonis_Si_7x7_028.sxm", "Z", "m", (256, 256), -5.6867847e-08, -5.6220266e-08, -5.6533395e-08),
    ("asylum_AR_20211011.ibw", "HeightRetrace", "m", (128, 128), -3.2459923e-08, 5.0788316e-08, -2.6e-17),
    ("asylum_AR_20211011.ibw", "PhaseRetrace", "deg", (128, 128), 63.928219, 85.189232, 69.806519),
    ("gwyddion_test.gwy", "Test", "", (128, 128), 0, 0.001, 0.00051529685),
    ("afm_catenanes.npy", "", "grey", (400, 400), -0.25216757, 4.5406426, None),
]


@pytest.mark.parametrize("file, name, unit, shape, low, high, mean", README)
def test_values_of_the_readme(channels, file, name, unit, shape, low, high, mean):
    channel = choose(channels(file), name)
    pixels = channel.pixels.astype(np.float64)
    assert channel.unit == unit and channel.pixels.dtype == np.float32 and pixels.shape == shape
    for found, expected in ((pixels.min(), low), (pixels.max(), high), (pixels.mean(), mean)):
        # A mean next to 0 is held against the range.
        assert expected is None or abs(found - expected) <= 1e-6 * max(abs(expected), (high - low) * (abs(expected) < 1e-9 * high))


# From the tests of the package the files were taken from (nanoAFMr: heights in nm or as stored, to the digits given there).
NANOAFMR = [
    ("nanosurf_20160301.nid", "Z-Axis forward", -2.9418e-7, -0.885e-7, 1e-4),
    ("nanosurf_20160301.nid", "Amplitude forward", 2.8534e-2, None, 1e-4),
    ("nanosurf_20160301.nid", "Z-Axis backward", -3.01208e-7, None, 1e-5),
    ("nanosurf_20160301.nid", "Amplitude backward", 2.89917e-2, None, 1e-5),
    ("nanoscope_kpg20080408.007", "Height", -8.1992, 10.4666, 1e-5),
    ("park_20210916_034.tiff", "Topography", -2.71e-3, 9.24e-3, 2e-3),
]


@pytest.mark.parametrize("file, name, low, high, digits", NANOAFMR)
def test_ranges_published_by_nanoafmr(channels, file, name, low, high, digits):
    pixels = choose(channels(file), name).pixels
    assert pixels.min() == pytest.approx(low, rel=digits)
    assert high is None or pixels.max() == pytest.approx(high, rel=digits)


# Sums of all pixels from the tests of AFMReader, which has the JPK and WSxM files under other names; heights in nm.
AFMREADER = [
    ("jpk_file.jpk", "height trace", 219242202.8256843, 1.2770176335964876),
    ("jpk_file.jpk-qi-image", "height", 31593146.16051172, 4.999999999999986),
    ("jpk_file.jpk-qi-image", "slope", 626.3810326940231, 4.999999999999986),
    ("wsxm_file.stp", "Topography", -15070620.440757688, 0.9765625),
]


@pytest.mark.parametrize("file, name, total, scale", AFMREADER)
def test_sums_published_by_afmreader(channels, file, name, total, scale):
    channel = to_nm(choose(channels(file), name))
    assert channel.pixels.sum(dtype=np.float64) == pytest.approx(total, rel=1e-7)
    assert channel.nm_per_pixel == pytest.approx((scale, scale), rel=1e-14)


def test_two_wsxm_files_of_one_scan_agree(channels):
    (measured,), (counted,) = channels("wsxm_file.stp"), channels("wsxm_file.top")
    step = 13.6 * 20 / 2**16  # nm per count: the header's nm/V and its range of 20 V
    np.testing.assert_allclose(measured.pixels, counted.pixels, atol=1e-3 * step)


def test_every_channel_with_its_direction_and_scale(channels):
    listed = {label(c): c.unit for c in channels("nanonis_Si_7x7_012.sxm")}
    assert listed == {"Z forward": "m", "Z backward": "m", "Current forward": "A", "Current backward": "A"}
    assert [c.bias for c in channels("nanonis_Si_7x7_028.sxm")] == [-0.4] * 4
    scales = {
        "nanonis_Si_7x7_012.sxm": 200 / 256,
        "nanonis_Si_7x7_028.sxm": 50 / 256,
        "asylum_AR_20211011.ibw": 4000 / 127,
        "nanosurf_20160301.nid": 10_000 / 128,
        "park_20210916_034.tiff": 2500 / 256,
        "nanoscope_kpg20080408.007": 1000 / 256,
        "wsxm_file.top": 500 / 512,
    }
    for file, scale in scales.items():
        for channel in channels(file):
            assert channel.nm_per_pixel == pytest.approx((scale, scale), rel=1e-12), file
    assert channels("gwyddion_test.gwy")[0].nm_per_pixel is None  # states no lateral unit
    names = [c.name for c in channels("asylum_AR_20211011.ibw")]
    assert names == ["HeightRetrace", "AmplitudeRetrace", "PhaseRetrace", "ZSensorRetrace"]
    assert len(channels("jpk_file.jpk")) == 10 and len({label(c) for c in channels("jpk_file.jpk-qi-image")}) == 6


DEFAULTS = {
    "nanonis_Si_7x7_012.sxm": "Z forward",
    "asylum_AR_20211011.ibw": "HeightRetrace",
    "nanosurf_20160301.nid": "Z-Axis forward",
    "nanoscope_kpg20080408.007": "Height backward",
    "park_20210916_034.tiff": "Topography forward",
    "jpk_file.jpk": "height forward",
    "jpk_file.jpk-qi-image": "height forward",
    "wsxm_file.stp": "Topography forward",
    "gwyddion_test.gwy": "Test",
}


@pytest.mark.parametrize("file", DEFAULTS)
def test_heights_are_taken_unasked_and_come_in_nm(channels, file):
    channel = to_nm(choose(channels(file)))
    assert label(channel) == DEFAULTS[file]
    if file != "gwyddion_test.gwy":
        assert channel.unit == "nm" and 0.5 < np.ptp(channel.pixels) < 1000


PAIRS = [("nanonis_Si_7x7_012.sxm", "Z"), ("nanonis_Si_7x7_028.sxm", "Z"), ("nanosurf_20160301.nid", "Z-Axis"), ("jpk_file.jpk", "phase")]


@pytest.mark.parametrize("file, name", PAIRS)
def test_both_scan_directions_show_the_same_place(channels, file, name):
    forward, backward = (level(to_nm(choose(channels(file), f"{name} {way}")).pixels, "plane")[0] for way in ("forward", "backward"))
    found = {place: correlation(forward, picture) for place, picture in turned(backward).items()}
    assert max(found, key=found.get) == "as it is" and found["as it is"] > max(0.4, 1.5 * found["mirrored"]), found


def test_park_is_upright_as_its_own_preview_shows(channels):
    preview = tifffile.imread(channels.folder / "park_20210916_034.tiff")
    found = {place: correlation(preview, picture) for place, picture in turned(channels("park_20210916_034.tiff")[0].pixels).items()}
    assert found["as it is"] > 0.9 and max(abs(value) for place, value in found.items() if place != "as it is") < 0.1, found


def test_jpk_is_upright_as_its_own_thumbnail_shows(channels):
    cv2 = pytest.importorskip("cv2")
    with tifffile.TiffFile(channels.folder / "jpk_file.jpk-qi-image") as file:
        colours = np.asarray(file.pages[0].tags[320].value)
        thumbnail = cv2.cvtColor(np.moveaxis(colours[:, file.pages[0].asarray()] >> 8, 0, -1).astype(np.uint8), cv2.COLOR_RGB2GRAY)
    heights = level(to_nm(choose(channels("jpk_file.jpk-qi-image"), "height")).pixels, "plane+rows")[0]
    small = cv2.resize(heights, (64, 64), interpolation=cv2.INTER_AREA)
    shown = level(thumbnail.astype(np.float32), "plane+rows")[0]
    found = {place: correlation(shown, picture) for place, picture in turned(small).items()}
    assert found["as it is"] > 0.8 and max(abs(value) for place, value in found.items() if place != "as it is") < 0.1, found


def test_silicon_shows_its_lattice_at_one_place_in_both_directions(channels):
    """The strongest spots of the power spectrum between 0.8 and 4 nm: far above the median, and the same ones both ways."""
    spots = []
    for channel in channels("nanonis_Si_7x7_028.sxm")[:2]:
        heights = level(to_nm(channel).pixels, "plane+rows")[0].astype(np.float64)
        heights = np.clip(heights, *np.percentile(heights, (1, 99))) * np.hanning(256)[:, None] * np.hanning(256)
        power = np.abs(np.fft.fft2(heights - heights.mean())) ** 2
        fy, fx = (np.fft.fftfreq(256, scale) for scale in channel.nm_per_pixel)
        radius = np.hypot(fy[:, None], fx)
        ring = (radius > 1 / 4) & (radius < 1 / 0.8) & (np.abs(fy)[:, None] > 0.03) & (fy[:, None] > 0)
        strongest = np.argsort(np.where(ring, power, 0), axis=None)[::-1][:6]
        assert power.flat[strongest].min() > 50 * np.median(power[ring])
        spots.append({(round(float(fy[i // 256]), 2), round(float(fx[i % 256]), 2)) for i in strongest})
    assert len(spots[0] & spots[1]) >= 4, spots
    assert not {(y, -x) for y, x in spots[0]} & spots[1]  # mirrored, the spots lie elsewhere
