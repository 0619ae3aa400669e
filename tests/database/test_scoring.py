"""What scores are made of: the same weights before and after they were fetched, as many crops of each scan."""

import pytest

from configs import stm_database
from database import build, scoring
from microscopy.scan import DataError


def test_weights_are_fetched_before_they_decide_whether_scores_are_stale(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file, calls = tmp_path / "scanforge" / scoring.weights.FILE, []

    def download(url, path, sha256_prefix, network):
        calls.append(url)
        path.parent.mkdir()
        path.write_bytes(b"weights")

    monkeypatch.setattr(scoring.weights, "_download", download)
    config = stm_database.get_config("tiny")
    section = config.stages.scores
    assert scoring.weights_file(section) is None
    section.weights = "cached"
    assert scoring.weights_file(section) is None and not calls
    section.weights = "auto"
    chain = build.Chain(config, tmp_path, None, None, None)
    before = build._scores(chain, []).inputs
    assert calls == [scoring.weights.URL] and before["weights"] != "none"
    assert build._scores(chain, []).inputs == before and len(calls) == 1
    section.weights = "cached"
    assert scoring.weights_file(section) == file


def test_as_many_crops_of_each_scan_are_scored():
    ids = [f"{scan:04d}_{number:06d}" for scan, number in zip([3] * 6 + [7] * 5 + [9], range(12), strict=True)]
    assert scoring.spread(ids)[:7] == [ids[0], ids[6], ids[11], ids[1], ids[7], ids[2], ids[8]]
    assert scoring.spread(["000002", "000000", "000001"]) == ["000000", "000001", "000002"]


def test_without_a_scan_to_judge_by_nothing_begins(tmp_path):
    config = stm_database.get_config("tiny").unlock()
    config.data.held_out = config.data.test = 0.0
    with pytest.raises(DataError, match="no scan is held out, so nothing generated can be judged"):
        build.begun(config.lock(), tmp_path)
