"""The pictures of an inspection, read back."""

import numpy as np
import pytest

from configs import dcgan
from microscopy import overview, plots, preparation
from microscopy.scan import Scan


def prepared_of(monkeypatch, scans, **changes):
    monkeypatch.setattr(preparation, "load_scans", lambda data: (list(scans), []))
    config = dcgan.config("test", 16, 4, "tiny").unlock()
    config.data.update({"source": "folder:x", "held_out": 0.2, "test": 0.2, **changes})
    return preparation.prepare(config)


def scan_of(index, shape=(100, 80), nm=None, channels=()):
    pixels = np.random.default_rng(index).integers(20 + index, 200, size=(*shape, *channels), dtype=np.uint8)
    return Scan(f"scan{index}", pixels, str(index), file=f"scan{index}.png", nm_per_pixel=nm)


@pytest.mark.parametrize(("width", "bar"), [(128.0, 50), (100.0, 20), (1.0, 0.2), (9_000.0, 2000), (12.5, 5)])
def test_a_scale_bar_is_round_and_at_most_two_fifths(width, bar):
    assert overview.scale_bar_nm(width) == pytest.approx(bar) and bar <= 0.4 * width < 2.5 * bar


def test_every_scan_is_shown_on_the_grey_scale_of_training(monkeypatch):
    scans = [scan_of(index) for index in range(5)]
    prepared = prepared_of(monkeypatch, scans)
    picture = overview.scans_picture(prepared)
    assert picture.shape == (2 * 236 + 2, 4 * 202 - 2, 3)
    order = [scan for part in prepared.splits.values() for scan in part]
    for index, scan in enumerate(order):
        top, left = index // 4 * 238, index % 4 * 202
        tile = picture[top : top + 200, left : left + 160, 0].astype(float).reshape(100, 2, 80, 2).mean((1, 3))
        wanted = (prepared.value_map.to_unit(scan.pixels) + 1) * 127.5
        assert np.abs(tile - wanted).max() <= 0.51
        caption = picture[top + 202 : top + 236, left : left + 200]
        assert (caption < 128).any() and (picture[top : top + 200, left + 160 : left + 200] == 255).all()


@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_scale_bar_is_as_long_as_it_says(monkeypatch, channels):
    scans = [scan_of(index, (100, 100), (0.5, 0.5), channels) for index in range(3)]
    prepared = prepared_of(monkeypatch, scans, channels=3 if channels else 1)
    picture = overview.scans_picture(prepared)
    bar = np.flatnonzero((picture[191, 3:197] == 255).all(-1))
    assert len(bar) == 81 and (np.diff(bar) == 1).all()  # 20 nm of 50 nm on 200 px, both ends drawn


def test_heights_are_shown_at_their_own_contrast_so_that_a_flat_scan_shows_its_structure(monkeypatch):
    texture = np.random.default_rng(0).normal(size=(100, 100)).astype(np.float32)
    scans = [Scan(str(i), texture * size, str(i), unit="nm", nm_per_pixel=(0.5, 0.5)) for i, size in enumerate((0.01, 1.0, 100.0))]
    picture = overview.scans_picture(prepared_of(monkeypatch, scans))
    tiles = [picture[:150, index * 202 : index * 202 + 200].astype(int) for index in range(3)]
    assert tiles[0].std() > 40 and all(np.abs(tile - tiles[0]).max() <= 1 for tile in tiles[1:])


def test_of_many_scans_sixty_are_shown(monkeypatch):
    picture = overview.scans_picture(prepared_of(monkeypatch, [scan_of(index, (24, 24)) for index in range(70)]))
    assert picture.shape == (6 * 238 - 2, 10 * 202 - 2, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_histogram_is_numpys(dtype):
    scans = [Scan(str(i), np.random.default_rng(i).integers(0, 100, size=(30, 40)).astype(dtype), str(i)) for i in range(3)]
    got = overview.histogram(scans, -0.5, 49.5, 50)
    values = np.concatenate([scan.pixels.ravel() for scan in scans])
    np.testing.assert_allclose(got, [100 * np.mean(values == level) for level in range(50)])


def test_statistics_show_a_curve_a_split_and_what_training_images_can_hold(monkeypatch):
    y, x = np.mgrid[:64, :64] * 0.5
    scans = [
        Scan(str(i), np.sin(2 * np.pi * (x + i) / 4).astype(np.float32), str(i), unit="nm", nm_per_pixel=(0.5, 0.5)) for i in range(10)
    ]
    prepared = prepared_of(monkeypatch, scans, rotation="none", levelling="none", crop=64)
    picture = overview.statistics_picture(prepared)
    assert picture.shape == (plots.HEIGHT, 2 * plots.WIDTH, 3)
    spectrum = picture[:, plots.WIDTH :]
    found = [np.abs(spectrum[42:363, 90:620].astype(int) - np.array(colour)).sum(-1) < 60 for colour in plots.COLOURS]
    assert [each.sum() > 50 for each in found] == [False, False, True, False]  # the three lie on each other, the last is drawn on top
    rows, columns = np.nonzero(found[2])
    peak = columns[rows == rows.min()].mean() + 90
    low, high = np.log10(1 / 32), np.log10(1.0)
    assert peak == pytest.approx(88 + (np.log10(0.25) - low) / (high - low) * 534, abs=3)  # 4 nm
    limit = np.flatnonzero((spectrum[300:350] == 0).all(axis=(0, 2)))
    assert limit.tolist() == [round(88 + (np.log10(0.25) - low) / (high - low) * 534)]  # 16 px for 64: 2 nm per pixel


@pytest.mark.parametrize("shape", [(6, 9), (2, 40)])
def test_scans_too_small_for_a_spectrum_still_have_pictures(monkeypatch, shape):
    prepared = prepared_of(monkeypatch, [scan_of(index, shape) for index in range(3)], rotation="none")
    assert overview.statistics_picture(prepared).shape == (plots.HEIGHT, 2 * plots.WIDTH, 3)
    assert overview.scans_picture(prepared).ndim == 3
