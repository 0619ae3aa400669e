"""Methods are strings of steps; what each took stands in the record, and the record gives the heights back."""

import json

import numpy as np
import pytest

from microscopy import defects, levelling, planes, rows
from microscopy.scan import DataError, FieldError
from microscopy.simulator import SimulatorSettings, simulate_scan

REVERSIBLE = tuple(step for step in levelling.STEPS if step not in levelling.DEFECTS)


@pytest.fixture(scope="module")
def scan():
    return simulate_scan(SimulatorSettings(size_px=(120, 160)), 0).height


def test_the_published_methods_are_what_they_were(scan):
    """Figures are published with them: plane by its closed form, then row medians or backgrounds, rounded to float32 at the end."""
    height = scan.astype(np.float64)
    y, x = np.arange(120) - 59.5, np.arange(160) - 79.5
    offset = height.mean()
    slopes = (height - offset).mean(1) @ y / (y @ y), (height - offset).mean(0) @ x / (x @ x)
    flat = height - (offset + slopes[0] * y[:, None] + slopes[1] * x[None, :])
    expected = {
        "none": scan,
        "plane": flat,
        "plane+rows": flat - np.median(flat, axis=1)[:, None],
        "plane+backgrounds": flat - rows.row_backgrounds(flat)[1][:, None],
    }
    assert tuple(expected) == levelling.METHODS
    for method, wanted in expected.items():
        assert np.array_equal(levelling.level(scan, method)[0], wanted.astype(np.float32)), method


def test_level_by_every_method():
    y, x = np.indices((50, 70))
    substrate = np.random.default_rng(1).normal(size=(50, 70)).astype(np.float32)
    tilted = substrate + 0.5 * y - 0.2 * x + np.random.default_rng(2).normal(size=(50, 1))
    spread = []
    for method in levelling.METHODS:
        levelled, record = levelling.level(tilted, method)
        assert levelled.dtype == np.float32 and record["method"] == method and json.loads(json.dumps(record)) == record
        spread.append(levelled.std())
    assert spread[0] > spread[1] > spread[2] and spread[2] == pytest.approx(1.0, abs=0.05)
    assert record["slope_y"] == pytest.approx(0.5, abs=0.02) and record["slope_x"] == pytest.approx(-0.2, abs=0.01)
    assert record["row_shifts_rms"] == pytest.approx(1.0, abs=0.3)
    assert np.array_equal(levelling.level(substrate, "none")[0], substrate)


def test_steps_are_done_from_left_to_right(scan):
    levelled, record = levelling.level(scan, "robust + differences+scars+spikes")
    height, coefficients = planes.background_plane(scan)
    height, shifts = rows.row_differences(height)
    height, streaks = defects.scars(height)
    height, points = defects.spikes(height)
    assert np.array_equal(levelled, height.astype(np.float32)) and streaks.any() and points.any()
    steps = record["steps"]
    assert [facts["step"] for facts in steps] == ["robust", "differences", "scars", "spikes"]
    assert [steps[0][name] for name in ("offset", "slope_y", "slope_x")] == coefficients.tolist()
    np.testing.assert_allclose(steps[1]["row_shifts"], shifts, rtol=1e-8)
    assert record["scars_replaced"] == streaks.sum() and record["spikes_replaced"] == points.sum()
    assert not np.array_equal(levelled, levelling.level(scan, "scars+spikes+robust+differences")[0])


@pytest.mark.parametrize("method", [*REVERSIBLE, *levelling.METHODS, "facet+terraces", "polynomial2+rows+offset+plane"])
@pytest.mark.parametrize("offset", [0.0, -56.8])
def test_the_record_gives_the_heights_back(scan, method, offset):
    height = scan.astype(np.float64) + offset
    levelled, record = levelling.level(height, method)
    restored = levelling.restore(levelled, json.loads(json.dumps(record)))
    assert restored.dtype == np.float64
    rounding = np.spacing(np.abs(levelled).max()) + 1e-8 * np.abs(height).max()
    assert np.abs(restored - height).max() <= rounding
    assert method in ("none", "offset") or np.abs(levelled - height).max() > 1000 * rounding


def test_replaced_pixels_keep_their_new_heights(scan):
    height = scan.astype(np.float64)
    levelled, record = levelling.level(height, "plane+rows+scars+spikes")
    kept = np.isclose(levelling.restore(levelled, record), height, rtol=0, atol=1e-5)
    num_changed = (~kept).sum()
    assert 0 < num_changed <= record["scars_replaced"] + record["spikes_replaced"]
    assert num_changed > 0.9 * (record["scars_replaced"] + record["spikes_replaced"])


def test_a_record_of_a_photograph_or_another_scan():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert np.array_equal(levelling.restore(grey, {"method": "none"}), grey)
    with pytest.raises(DataError, match="of 3 rows, the scan has 4"):
        levelling.restore(np.zeros((4, 4)), levelling.level(grey, "rows")[1])


def test_auto_levels_heights_only():
    assert levelling.auto("nm") == "plane+backgrounds" and levelling.auto("grey") == levelling.auto("pA") == "none"
    assert levelling.auto("nm") in levelling.METHODS


@pytest.mark.parametrize(
    ("method", "unknown", "nearest"),
    [
        ("polynomial", "'polynomial'", "polynomial[23]"),
        ("facte+rows", "'facte' in 'facte\\+rows'", "facet"),
        ("plane+background", "'background' in", "backgrounds"),
        ("plane+Terraces", "'Terraces' in", "terraces"),
        ("plane+", "'' in", ""),
        ("none+plane", "'none' in .*none stands alone", ""),
    ],
)
def test_an_unknown_step_is_named_with_the_nearest(method, unknown, nearest):
    with pytest.raises(FieldError, match=f"{unknown}.*the nearest is {nearest}") as raised:
        levelling.level(np.zeros((4, 4)), method)
    assert raised.value.exit_code == 2 and len(str(raised.value).splitlines()) <= 5


def test_every_step_takes_every_shape_and_every_plain_height():
    """Warnings are errors here: no step divides by a spread of 0 or runs out of rows."""
    random = np.random.default_rng(0)
    for shape in [(1, 1), (1, 5), (5, 1), (2, 2), (3, 100), (100, 3), (20, 20)]:
        noise = random.normal(size=shape)
        for height in (np.zeros(shape), np.full(shape, 7.3), noise, noise * 1e-10, noise + 1e6, np.round(noise), noise > 0):
            for step in levelling.STEPS:
                levelled, record = levelling.level(height, step)
                assert levelled.shape == shape and np.isfinite(levelled).all(), (shape, step)
                if step in REVERSIBLE:
                    assert np.abs(levelling.restore(levelled, record) - height).max() <= 1e-6 * np.abs(1.0 * height).max(), (shape, step)


def test_whole_numbers_are_levelled_too():
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8), (20, 200))
    assert np.abs(levelling.level(ramp, "plane")[0]).max() < 1e-4


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="shape"):
        levelling.level(np.zeros((4, 4, 3)), "plane")
    with pytest.raises(DataError, match="shape"):
        levelling.level(np.zeros((0, 4)), "none")
    with pytest.raises(DataError, match="1 pixels are NaN"):
        levelling.level(np.array([[0.0, np.nan]]), "plane")


def read_nanonis_height(path):
    """The first channel, Z forward in nm, of a Nanonis file of 256 x 256: big-endian float32 after the bytes 1A 04."""
    content = path.read_bytes()
    start = content.index(b"\x1a\x04") + 2
    return np.frombuffer(content, ">f4", 256 * 256, start).reshape(256, 256).astype(np.float64) * 1e9


def test_terraces_of_a_real_scan_come_out_flat(real_data):
    """Si(111) with monatomic steps: within the two large terraces the tilt is gone, between them the step stands."""
    height = read_nanonis_height(real_data / "spm-native" / "nanonis_Si_7x7_012.sxm")
    levelled = {method: levelling.level(height, method)[0] for method in ("plane+backgrounds", "facet+terraces")}
    upper, lower = (slice(20, 150), slice(5, 150)), (slice(20, 110), slice(178, 215))
    tilt = {}
    for method, flat in levelled.items():
        slopes = [np.polyfit(np.arange(part.shape[1]), np.median(part, axis=0), 1)[0] for part in (flat[upper], flat[lower])]
        tilt[method] = 256 * np.abs(slopes).max()
    flat = levelled["facet+terraces"]
    step = np.median(flat[upper]) - np.median(flat[lower])
    assert 0.2 < step < 0.35  # a bilayer of Si(111) is 0.314 nm; the file's heights say 0.24
    assert tilt["facet+terraces"] < 0.15 * step < 0.5 * step < tilt["plane+backgrounds"]


def test_the_lattice_of_a_real_scan_stays(real_data):
    """Si(111)-7x7: its spots keep their strength; the streak along q_x = 0 that uneven rows make is far weaker than after backgrounds."""
    height = read_nanonis_height(real_data / "spm-native" / "nanonis_Si_7x7_028.sxm")
    window = np.hanning(256)[:, None] * np.hanning(256)
    methods = ("plane", "plane+backgrounds", "facet+terraces")
    power = {method: np.abs(np.fft.fft2(window * levelling.level(height, method)[0])) ** 2 for method in methods}
    streak = {method: np.median(found[60:128, 0]) / np.median(found[60:128, 3:12]) for method, found in power.items()}
    assert streak["plane+backgrounds"] > 3 * streak["facet+terraces"]
    spots = np.argsort(power["plane"][10:128, 10:100].ravel())[-6:]
    kept = power["facet+terraces"][10:128, 10:100].ravel()[spots] / power["plane"][10:128, 10:100].ravel()[spots]
    np.testing.assert_allclose(kept, 1.0, atol=0.02)
