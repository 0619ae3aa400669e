"""Lineage: what is recorded of scans and weights, and that leaks and changed scans are refused."""

import json

import numpy as np
import pytest

from microscopy.scan import Scan
from training import checkpoints, lineage
from training.errors import RunError


def scan(name, sha256=None, file=None):
    return Scan(name, np.zeros((2, 2), np.uint8), sha256 or f"sha-{name}", file=f"{name}.png" if file is None else file)


def splits(train="ab", held_out="c", test="d"):
    return {"train": [scan(name) for name in train], "held_out": [scan(name) for name in held_out], "test": [scan(name) for name in test]}


def begun(workdir):
    (workdir / "checkpoints" / "4").mkdir(parents=True)


def entry(name, split, sha256=None):
    return {"id": name, "file": f"{name}.png", "sha256": sha256 or f"sha-{name}", "split": split}


def upstream(*scans, source="runs/first"):
    return lineage.of_weights(source, 8, "sha-weights", list(scans))


def test_every_scan_and_its_split_are_recorded_with_the_weights_behind_them(tmp_path):
    source = upstream(entry("a", "train"), entry("z", "train"))
    lineage.write(tmp_path, splits(), [source])
    written = {"scans": [entry("a", "train"), entry("b", "train"), entry("c", "held_out"), entry("d", "test")], "upstream": [source]}
    assert lineage.read(tmp_path) == json.loads((tmp_path / "lineage.json").read_text()) == written
    assert source == {"source": "runs/first", "step": 8, "sha256": "sha-weights", "scans": [entry("a", "train"), entry("z", "train")]}


@pytest.mark.parametrize("where", ["held_out", "test"])
def test_a_scan_that_is_evaluated_on_may_not_have_trained_the_weights(tmp_path, where):
    name = {"held_out": "c", "test": "d"}[where]
    with pytest.raises(RunError, match=rf"config.init_from=runs/first: it was trained on other.png, .* \(split {where}\)") as error:
        lineage.write(tmp_path, splits(), [upstream(entry("a", "train"), entry("other", "train", f"sha-{name}"))])
    assert len(str(error.value).splitlines()) == 2 and not (tmp_path / "lineage.json").exists()
    lineage.write(tmp_path, splits(), [upstream(entry("a", "train"), entry("c", "held_out"), entry("d", "test"))])


def test_scans_two_runs_back_are_behind_the_weights_too(tmp_path):
    first = lineage.record(splits("d", "x", "y"), [])
    second = lineage.record(splits("e", "x", "y"), [upstream(*lineage.behind(first))])
    assert [(scan["id"], scan["split"]) for scan in lineage.behind(second)] == [
        ("e", "train"), ("x", "held_out"), ("y", "test"), ("d", "train"), ("x", "held_out"), ("y", "test"),
    ]  # fmt: skip
    with pytest.raises(RunError, match="config.init_from=runs/second: it was trained on d.png, .* .split test."):
        lineage.write(tmp_path, splits(), [upstream(*lineage.behind(second), source="runs/second")])


@pytest.mark.parametrize(("one", "other"), [("train", "test"), ("train", "held_out"), ("held_out", "test")])
def test_the_same_bytes_in_two_splits_are_refused(tmp_path, one, other):
    parts = splits()
    parts[other].append(scan("copy", parts[one][0].sha256))
    with pytest.raises(RunError, match=f"copy.png: the same bytes are in the splits {one} and {other}"):
        lineage.write(tmp_path, parts, [])
    parts = splits()
    parts[one].append(scan("copy", parts[one][0].sha256))
    lineage.write(tmp_path, parts, [])


def test_a_scan_without_a_file_is_named_by_its_id(tmp_path):
    parts = splits() | {"test": [scan("simulated_007", "sha-a", file="")]}
    with pytest.raises(RunError, match="^simulated_007: the same bytes"):
        lineage.write(tmp_path, parts, [])


@pytest.mark.parametrize(
    ("now", "count", "first"),
    [
        (splits() | {"train": [scan("a"), scan("b", "other bytes")]}, 1, "b"),
        (splits("a"), 1, "b"),
        (splits("abe"), 1, "e"),
        (splits("abc", "d", ""), 2, "c"),
    ],
)
def test_scans_that_changed_under_a_begun_run_are_refused(tmp_path, now, count, first):
    lineage.write(tmp_path, splits(), [])
    before = (tmp_path / "lineage.json").read_bytes()
    lineage.write(tmp_path, splits("ba"), [])  # nothing is saved yet: this is a new start
    begun(tmp_path)
    lineage.write(tmp_path, splits(), [])
    with pytest.raises(RunError, match=f"not those the run was begun with; {count} differ, the first is {first}[.]"):
        lineage.write(tmp_path, now, [])
    assert json.loads((tmp_path / "lineage.json").read_text())["scans"] == lineage.record(splits("ba"), [])["scans"]
    assert before != (tmp_path / "lineage.json").read_bytes()


def test_moved_and_reordered_files_are_the_same_scans(tmp_path):
    lineage.write(tmp_path, splits(), [])
    begun(tmp_path)
    assert checkpoints.steps(tmp_path) == [4]
    lineage.write(tmp_path, splits() | {"train": [scan("b", file="elsewhere/b.png"), scan("a")]}, [])


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"scans": 3, "upstream": []}'])
def test_a_lineage_that_cannot_be_read_is_a_short_error(tmp_path, content):
    if content is not None:
        (tmp_path / "lineage.json").write_text(content)
    with pytest.raises(RunError, match="lineage.json cannot be read") as error:
        lineage.read(tmp_path)
    assert len(str(error.value).splitlines()) <= 5
