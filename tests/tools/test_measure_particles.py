"""Particles of simulated scans as tables: true masks give true sizes, found ones are near, and every file says its units."""

import csv

import cv2
import numpy as np
import pytest

from microscopy import simulator
from tools import measure_particles

WORDS = ["", "--config=configs/dcgan48.py", "--config.data.num_simulated=2"]


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def truth():
    return simulator.simulated_scans(simulator.SimulatorSettings(), num_scans=2, seed=0)


def test_true_masks_give_the_pixels_of_every_particle(tmp_path, capsys):
    assert measure_particles.main([*WORDS, f"--output={tmp_path}", "--config.data.use_masks=true", "--min_area=1"]) == 0
    rows = table(tmp_path / "particles.csv")
    for scan in truth():
        labels, areas = np.unique(scan.mask[scan.mask > 0], return_counts=True)
        mine = {int(row["label"]): row for row in rows if row["scan"] == scan.id}
        assert sorted(mine) == labels.tolist()
        for label, area in zip(labels.tolist(), areas.tolist(), strict=True):
            assert float(mine[label]["area_px2"]) == area
            assert float(mine[label]["area_nm2"]) == pytest.approx(area * np.prod(scan.nm_per_pixel))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"simulated_000: {sum(row['scan'] == 'simulated_000' for row in rows)} particles, median diameter ")
    assert "nm, coverage" in lines[0] and "per um2" in lines[0] and lines[-1].startswith(f"{len(rows)} particles of 2 scans: ")


def test_found_particles_are_near_the_true_ones_and_are_drawn(tmp_path):
    assert measure_particles.main([*WORDS, f"--output={tmp_path}"]) == 0
    sets = table(tmp_path / "scans.csv")
    for scan, row in zip(truth(), sets, strict=True):
        assert 0.6 < int(row["particles"]) / scan.mask.max() <= 1.1 and row["scan"] == scan.id
        picture = cv2.imread(str(tmp_path / "outlines" / f"{scan.id}.png"))
        orange = (picture == (0, 120, 255)).all(-1)
        assert picture.shape[:2] == scan.pixels.shape and 0.01 < orange.mean() < 0.15


def test_photographs_are_measured_in_pixels_beside_no_heights(tmp_path):
    y, x = np.mgrid[:120, :160]
    disc = ((y - 60) ** 2 + (x - 50) ** 2 < 20**2) | ((y - 40) ** 2 + (x - 120) ** 2 < 12**2)
    (tmp_path / "scans").mkdir()
    cv2.imwrite(str(tmp_path / "scans" / "discs.png"), np.where(disc, 200, 50).astype(np.uint8))
    words = ["", "--config=configs/dcgan48.py", f"--config.data.source=folder:{tmp_path / 'scans'}", f"--output={tmp_path / 'out'}"]
    assert measure_particles.main(words) == 0
    rows = table(tmp_path / "out" / "particles.csv")
    assert sorted(float(row["equivalent_diameter_px"]) for row in rows) == pytest.approx([24, 40], abs=1)
    assert "volume_nm3" not in rows[0] and "area_nm2" not in rows[0] and float(rows[0]["mean_intensity"]) > 150


@pytest.mark.parametrize(("words", "match"), [(["--min_area=0", "--output=x"], "--min_area=0: 1 or more"), ([], "--output=DIR are needed")])
def test_what_cannot_be_is_a_short_error(words, match, capsys):
    assert measure_particles.main([*WORDS, *words]) == 2
    assert match in capsys.readouterr().err
