"""Copies told on the command line: planted ones by file and place, and what must be given."""

import json

import numpy as np
import pytest

from metrics import score
from metrics.memorisation import random_crops
from microscopy import simulator


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Folders `training`, `held_out` of four scans each and `images`: three copies, then five crops of a scan of neither."""
    scans = [scan.pixels for scan in simulator.simulated_scans(simulator.SimulatorSettings(size_px=(320, 320)), num_scans=9, seed=0)]
    random = np.random.default_rng(0)
    images = [*random_crops(scans[:4], 3, 32, 7.0, random), *random_crops(scans[8:], 5, 32, 7.0, random)]
    root = tmp_path_factory.mktemp("copies")
    for name, arrays in {"training": scans[:4], "held_out": scans[4:8], "images": images}.items():
        (root / name).mkdir()
        for index, array in enumerate(arrays):
            np.save(root / name / f"{index}.npy", np.asarray(array, np.float32))
    return root


def test_planted_copies_are_told_with_file_and_place(places, tmp_path, capsys):
    words = [str(places / "held_out"), str(places / "images"), "--metrics=memorisation", f"--training={places / 'training'}"]
    assert score.main([*words, "--pitch=7", f"--json={tmp_path / 'out.json'}"]) == 0
    found = json.loads((tmp_path / "out.json").read_text())["memorisation"]
    assert "3 of 8 are copies" in capsys.readouterr().out
    assert found["value"] == 3 / 8 and found["sensitivity"] > 0.9 and found["n_training"] == found["n_real"] == 4
    copies = [row for row in found["most_alike"] if row["copy"]]
    assert {row["image"].rpartition("/")[2] for row in copies} == {"0.npy", "1.npy", "2.npy"}
    assert all(row["scan"].startswith(str(places / "training")) for row in copies)
    assert score.main(words) == 1
    assert "give --pitch" in capsys.readouterr().err


def test_what_must_be_given_is_said(places, capsys):
    words = [str(places / "held_out"), str(places / "images")]
    for more in (["--metrics=memorisation"], ["--metrics=surface", f"--training={places}"]):
        assert score.main([*words, *more]) == 2
        assert "belong together" in capsys.readouterr().err
    assert score.main([*words, "--metrics=memorisation", f"--training={places / 'training'}", "--pitch=0"]) == 2
