"""A tiny run by the command line: it learns stripes, writes its evaluation and report, predicts to a table, goes on when interrupted."""

import csv
import json
import signal

import cv2
import numpy as np
import pytest

import main
from classification import prediction
from configs import classifier
from microscopy.folder import read_scan
from microscopy.scan import DataError
from tests.classification.folders import striped
from training import loop
from training.errors import RunError
from training.prediction import Request
from training.signals import Stop

FLAGS = {"train.num_steps": 60, "train.eval_every": 30, "train.save_every": 30, "train.preview_every": 60, "train.rate": 5e-3}
FLAGS |= {
    "model.base_width": 8,
    "train.ema_decay": 0.9,
    "train.log_every": 20,
    "data.test": 0.2,
    "data.rotation": "none",
    "train.turn": 10.0,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Returns (workdir, source) of a run that has learned the stripes."""
    folder = tmp_path_factory.mktemp("classifier")
    source, workdir = striped(folder / "scans", 30), folder / "run"
    given = [f"--config.{name}={value}" for name, value in FLAGS.items()]
    argv = ["main.py", "--config=configs/classifier.py:tiny", f"--config.data.source=folder:{source}", f"--workdir={workdir}", *given]
    assert main.run(argv) == 0
    return workdir, source


def table(output):
    with open(output / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_it_learns_stripes_and_says_what_it_measured(trained):
    workdir, _ = trained
    found = json.loads((workdir / "evaluation.json").read_text())
    scalars = found["scalars"]
    assert scalars["classification/accuracy"] > 0.9 and scalars["classification/test_accuracy"] > 0.9
    assert scalars["classification/auc"] > 0.95 and 0.05 <= scalars["classification/temperature"] <= 20
    assert scalars["classification/calibrated_nll"] <= scalars["classification/nll"] + 1e-9
    assert scalars["classification/accuracy_low"] < scalars["classification/accuracy"] <= scalars["classification/accuracy_high"]
    assert "18 held-out scans, 12 test scans, each" in found["protocol"]
    rows = found["tables"]["test scans, true class and what it was taken for"]
    assert sum(value for row in rows for value in row.values() if not isinstance(value, str)) == 12
    pictures = {path.stem: cv2.imread(str(path)).shape for path in (workdir / "evaluation").glob("*.png")}
    assert set(pictures) == {"confusion_matrix", "reliability", "ROC_by_class"} and all(shape[2] == 3 for shape in pictures.values())
    page = (workdir / "report.html").read_text()
    assert "ROC by class" in page and "confusion matrix" in page
    assert json.loads((workdir / "classes.json").read_text()) == {"classes": ["across", "down"]}


def test_predictions_are_a_table_with_calibrated_probabilities(trained, tmp_path, capsys):
    workdir, _ = trained
    source, output = striped(tmp_path / "new", 6, size=(23, 31), seed=5), tmp_path / "out"
    assert main.run(["main.py", "--mode=predict", f"--workdir={workdir}", f"--input={source}", f"--output={output}"]) == 0
    rows, printed = table(output), capsys.readouterr().out
    assert len(rows) == 12 and list(rows[0]) == ["file", "id", "predicted", "confidence", "probability across", "probability down"]
    right = [row["predicted"] == row["id"].split("/")[0] for row in rows]
    assert np.mean(right) > 0.9 and f"accuracy {np.mean(right):.4g} " in printed and "p50" in printed
    for row in rows:
        probabilities = [float(row["probability across"]), float(row["probability down"])]
        assert sum(probabilities) == pytest.approx(1) and float(row["confidence"]) == max(probabilities)
    record, last = (json.loads((path).read_text()) for path in (output / "prediction.json", workdir / "evaluation.json"))
    assert record["temperature"] == last["scalars"]["classification/temperature"] and record["step"] == 60


def test_the_temperature_is_that_of_the_step_or_of_the_last_scored_before(tmp_path):
    lines = [
        {"step": 10, "classification/temperature": 2.0},
        {"step": 15, "network/loss": 1.0},
        {"step": 20, "classification/temperature": 3.0},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [prediction.temperature_of(tmp_path, step) for step in (5, 10, 15, 25)] == [(1.0, None), (2.0, 10), (2.0, 10), (3.0, 20)]


def test_held_out_scans_are_predicted_as_they_were_scored(trained, tmp_path):
    workdir, source = trained
    config = loop.workdirs.read_config(workdir)
    prepared = loop.input_pipeline.prepare(config)
    loop.method(config).predict(config, workdir, Request(str(source), str(tmp_path / "out")))
    found = {row["id"]: row["predicted"] for row in table(tmp_path / "out")}
    right = np.mean([found[scan.id] == scan.label for scan in prepared.splits["held_out"]])
    scored = json.loads((workdir / "evaluation.json").read_text())["scalars"]["classification/accuracy"]
    assert right == pytest.approx(scored)


def test_interrupted_predictions_go_on_and_bad_files_are_named(trained, tmp_path):
    workdir, _ = trained
    source, output = striped(tmp_path / "new", 4, seed=9), tmp_path / "out"
    config, stop = loop.workdirs.read_config(workdir), Stop()
    method, stop.signal = loop.method(config), signal.SIGTERM
    method.predict(config, workdir, Request(str(source), str(output), stop=stop))
    assert table(output) == []
    (source / "across" / "broken.png").write_bytes(b"no picture")
    cv2.imwrite(str(source / "small.png"), np.zeros((8, 9, 3), np.uint8))
    cv2.imwrite(str(source / "deep.png"), np.zeros((30, 30, 3), np.uint16))
    with pytest.raises(RunError, match="3 of 11 files") as error:
        method.predict(config, workdir, Request(str(source), str(output)))
    assert len(str(error.value).splitlines()) <= 5 and len(table(output)) == 8
    for name in ("broken.png", "small.png", "deep.png"):
        next(source.rglob(name)).unlink()
    method.predict(config, workdir, Request(str(source), str(output)))
    again = tmp_path / "again"
    method.predict(config, workdir, Request(str(source), str(again)))
    assert table(output) == table(again)


def test_scans_are_framed_for_a_prediction_as_the_runs_were(tmp_path):
    source = striped(tmp_path / "scans", 4, size=(20, 12))
    config = classifier.get_config("tiny").unlock()
    for changes in ({"crop": 16}, {"crop": 0}, {"canvas": 18, "rotation": "none"}):
        config.data.update({"source": f"folder:{source}", "pad": "border", "canvas": 0, "rotation": "free", **changes})
        prepared = loop.input_pipeline.prepare(config)
        for scan in prepared.splits["train"]:
            read = read_scan(scan.id, scan.file, max_pixels=10**6)
            np.testing.assert_array_equal(prediction.as_the_runs(read, prepared, config.data).pixels, scan.pixels)
    config.data.update({"canvas": 0, "pad": ""})
    with pytest.raises(DataError, match="is smaller than the run's crops"):
        prediction.as_the_runs(read, prepared, config.data)


def test_other_scans_are_judged_at_the_temperature_of_the_run(trained, tmp_path):
    workdir, _ = trained
    own = prediction.temperature_of(workdir, 60)
    kept = (workdir / "evaluation.json").read_bytes()
    config = loop.workdirs.read_config(workdir)
    found = loop.evaluate(config, workdir, place=str(striped(tmp_path / "new", 12, seed=11)))
    (workdir / "evaluation.json").write_bytes(kept)
    scalars = found.scalars
    assert scalars["classification/temperature"] == own[0] and own[1] == 60
    assert (
        f"at the temperature that the run fitted on its own scans at step {own[1]}" in found.protocol and "optimistic" not in found.protocol
    )


@pytest.mark.parametrize("name", ["format", "smoothing", "tile"])
def test_what_is_not_for_a_classifier_is_refused(trained, tmp_path, name, capsys):
    workdir, source = trained
    value = {"format": "png", "smoothing": 1.0, "tile": 64}[name]
    argv = ["main.py", "--mode=predict", f"--workdir={workdir}", f"--input={source}", f"--output={tmp_path}", f"--{name}={value}"]
    assert main.run(argv) == 2 and f"--{name}=" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("classes", "match"), [(("across",), "all 4 scans are of the class across"), ((), "none of its 4 scans has a class")]
)
def test_sources_without_two_classes_are_refused(tmp_path, classes, match, capsys):
    source = striped(tmp_path / "scans", 4, classes=classes or ("across",))
    source = source if classes else source / "across"
    argv = ["main.py", "--config=configs/classifier.py:tiny", f"--config.data.source=folder:{source}", f"--workdir={tmp_path / 'run'}"]
    assert main.run(argv) == 1
    told = capsys.readouterr().err
    assert match in told and len(told.strip().splitlines()) <= 5


def test_unlabelled_scans_lost_classes_and_other_names_are_refused(trained, tmp_path, capsys):
    source = striped(tmp_path / "scans", 4)
    base = ["main.py", "--config=configs/classifier.py:tiny", f"--config.data.source=folder:{source}", f"--workdir={tmp_path / 'run'}"]
    assert main.run([*base, "--config.train.class_weights=1,2,3"]) == 2
    assert "3 numbers for 2 classes" in capsys.readouterr().err
    cv2.imwrite(str(source / "lone.png"), np.zeros((20, 24, 3), np.uint8))
    assert main.run(base) == 1
    assert "lone.png: has no class (1 of 9 scans have none)" in capsys.readouterr().err
    other = striped(tmp_path / "other", 3, classes=("across", "up"), seed=7)
    assert main.run(["main.py", "--mode=evaluate", f"--workdir={trained[0]}", f"--input={other}"]) == 1
    assert "is of the class up; the run knows across, down" in capsys.readouterr().err


def test_a_class_with_nothing_to_train_on_is_refused():
    from classification.classifier import check_scans
    from microscopy.normalisation import ValueMap
    from microscopy.preparation import Prepared
    from microscopy.scan import Scan

    def scans(*labels):
        return [Scan(f"{i}", np.zeros((4, 4), np.uint8), "", label=label) for i, label in enumerate(labels)]

    splits = {"train": scans("a", "a", "b"), "held_out": scans("c"), "test": []}
    prepared = Prepared(splits, ValueMap(0.0, 1.0, "grey", (0.0, 0.0)), (4, 4), [], {}, ("a", "b", "c"))
    with pytest.raises(DataError, match="no scan of the class c is left to train on"):
        check_scans(prepared, "folder:x")
    assert classifier.get_config("tiny").task == "classification.classifier"
