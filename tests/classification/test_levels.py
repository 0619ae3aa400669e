"""A classifier of folders in folders: it predicts and judges the layout it was trained on, and tells which scans it was trained on."""

import csv
import json
import shutil

import pytest

import main
from classification.prediction import accuracy_lines
from tests.classification.folders import striped

FLAGS = {"num_steps": 20, "eval_every": 20, "save_every": 20, "preview_every": 20, "log_every": 20}


def nested(folder, num, seed, levels="class/patient"):
    """Stripes as folder/class/patient/s1/x.png, a patient two images, or with the patient above."""
    flat = striped(folder.parent / f"{folder.name}_flat", num, seed=seed)
    for number, file in enumerate(sorted(flat.rglob("*.png"))):
        folders = {"class": file.parent.name, "patient": f"zoe{seed}_{number // 2}"}
        place = folder.joinpath(*(folders[name] for name in levels.split("/")), "s1")
        place.mkdir(parents=True, exist_ok=True)
        shutil.move(file, place / file.name)
    return folder


@pytest.fixture(scope="module", params=["class/patient", "patient/class"])
def trained(request, tmp_path_factory):
    """(workdir, source, levels) of a run on folders in folders."""
    folder = tmp_path_factory.mktemp("levels")
    source, workdir = nested(folder / "scans", 12, 0, request.param), folder / "run"
    words = [f"--config.train.{name}={value}" for name, value in FLAGS.items()]
    words += [f"--config.data.levels={request.param}/study", f"--config.data.source=folder:{source}", "--config.model.base_width=4"]
    assert main.run(["main.py", "--config=configs/classifier.py:tiny", f"--workdir={workdir}", *words]) == 0
    return workdir, source, request.param


def predict(workdir, source, output, capsys):
    capsys.readouterr()
    assert main.run(["main.py", "--mode=predict", f"--workdir={workdir}", f"--input={source}", f"--output={output}"]) == 0
    with open(output / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file)), capsys.readouterr().out


def test_the_layout_that_was_trained_on_is_predicted_and_its_training_scans_are_told(trained, tmp_path, capsys):
    workdir, source, _ = trained
    num = sum(scan["split"] == "train" for scan in json.loads((workdir / "lineage.json").read_text())["scans"])
    rows, printed = predict(workdir, source, tmp_path / "out", capsys)
    assert len(rows) == 24 and 0 < num < 24 and not any("zoe" in str(row) for row in rows)
    assert f"{num} of 24 images are scans that the run was trained on (SHA-256 in its lineage.json)." in printed
    assert f"of {24 - num} other images in folders of the run's classes." in printed
    again = predict(workdir, source, tmp_path / "out", capsys)[1]  # nothing is predicted anew, and the same is told
    assert [line for line in again.splitlines() if "accuracy" in line] == [line for line in printed.splitlines() if "accuracy" in line]


def test_other_folders_of_that_layout_are_judged(trained, tmp_path, capsys):
    workdir, _, levels = trained
    other = nested(tmp_path / "other", 4, 7, levels)
    assert main.run(["main.py", "--mode=evaluate", f"--workdir={workdir}", f"--input={other}"]) == 0
    assert "8 held-out scans" in capsys.readouterr().out


def test_file_names_are_relative_to_the_input_at_any_depth(tmp_path, capsys):
    source, workdir = striped(tmp_path / "scans", 8), tmp_path / "run"
    words = [f"--config.train.{name}={value}" for name, value in FLAGS.items()] + ["--config.model.base_width=4"]
    argv = ["main.py", "--config=configs/classifier.py:tiny", f"--config.data.source=folder:{source}", f"--workdir={workdir}", *words]
    assert main.run(argv) == 0
    rows, printed = predict(workdir, nested(tmp_path / "new", 2, 3), tmp_path / "out", capsys)
    assert [row["file"] for row in rows] == sorted(f"{row['id']}.png" for row in rows) and rows[0]["id"] == "across/zoe3_0/s1/3_000"
    assert "trained on" not in printed and "of 4 images in folders of the run's classes" in printed
    rows, _ = predict(workdir, source / "across" / "0_000.png", tmp_path / "one", capsys)
    assert [row["file"] for row in rows] == ["0_000.png"]


def test_accuracy_is_of_the_scans_that_were_not_trained_on_or_marked():
    rows = [{"id": f"{truth}/{number}", "predicted": found} for number, (truth, found) in enumerate(("aa", "bb", "ab", "bb"))]
    told, accuracy = accuracy_lines(rows, ("a", "b"), (), [True, True, False, False])
    assert told.startswith("2 of 4 images") and accuracy.startswith("accuracy 0.5 ") and "of 2 other images" in accuracy
    told, accuracy = accuracy_lines(rows, ("a", "b"), (), [True] * 4)
    assert told.startswith("4 of 4 images") and accuracy.startswith("accuracy 0.75 ")
    assert accuracy.endswith("of 4 training images in folders of the run's classes; it tells nothing of others.")
    (accuracy,) = accuracy_lines(rows, ("a", "b"))
    assert accuracy.endswith("of 4 images in folders of the run's classes.")
