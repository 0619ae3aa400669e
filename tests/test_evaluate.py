"""`--mode=evaluate`, the best checkpoint, and scans of another folder in the place of the held-out ones, as a user meets them."""

import json
import pathlib

import cv2
import numpy as np
import pytest

import main
from training import checkpoints

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def trained(scans, tmp_path_factory):
    """A workdir of eight steps, scored after every second one, saved only at the end and where the score was the best yet."""
    workdir = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        words = [f"--config.train.{name}={value}" for name, value in {"num_steps": 8, "save_every": 8, "eval_every": 2}.items()]
        assert run("--config=configs/dcgan32.py:tiny", f"--config.data.source=folder:{scans}", f"--workdir={workdir}", *words) == 0
    return workdir


def run(*words):
    return main.run(["main.py", *words])


def evaluation(workdir):
    return json.loads((workdir / "evaluation.json").read_text())


def test_the_checkpoint_of_the_lowest_score_is_kept_and_chosen(trained, capsys):
    log = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    cards = {record["step"]: record["surface/card"] for record in log if "surface/card" in record}
    assert sorted(cards) == [2, 4, 6, 8]
    lowest = min(cards, key=cards.get)
    assert checkpoints.best(trained) == lowest
    assert checkpoints.scores(trained)[lowest].value == pytest.approx(cards[lowest])
    assert run("--mode=evaluate", f"--workdir={trained}", "--checkpoint=best", "--num_searched=0") == 0
    assert evaluation(trained)["step"] == lowest
    assert evaluation(trained)["scalars"]["surface/card"] == pytest.approx(cards[lowest], rel=1e-4)
    assert f"best checkpoint</th><td>step {lowest}, surface/card" in (trained / "report.html").read_text()


def test_scans_of_another_folder_judge_and_those_trained_on_may_not(trained, scans, tmp_path, capsys):
    own = {item["file"]: item["split"] for item in json.loads((trained / "lineage.json").read_text())["scans"]}
    held_out = next(file for file, split in own.items() if split == "held_out")
    other = tmp_path / "other"
    other.mkdir()
    (other / "same.png").write_bytes(pathlib.Path(held_out).read_bytes())
    assert run("--mode=evaluate", f"--workdir={trained}", "--num_searched=0") == 0
    expected = evaluation(trained)["scalars"]
    assert run("--mode=evaluate", f"--workdir={trained}", "--num_searched=0", f"--input={other}") == 0
    found = evaluation(trained)
    assert found["scalars"] == pytest.approx(expected, rel=1e-5)  # the held-out scan itself, so the same crops
    assert found["protocol"].endswith(f"Held-out scans: those of {other}.")
    cv2.imwrite(str(other / "same.png"), 255 - cv2.imread(held_out, cv2.IMREAD_UNCHANGED))
    assert run("--mode=evaluate", f"--workdir={trained}", "--num_searched=0", f"--input={other}") == 0
    assert abs(evaluation(trained)["scalars"]["surface/card"] - expected["surface/card"]) > 0.01
    capsys.readouterr()
    assert run("--mode=evaluate", f"--workdir={trained}", f"--input={scans}") == 1
    assert "was trained on this scan" in capsys.readouterr().err


def test_copies_are_searched_for_in_the_training_scans(trained):
    assert run("--mode=evaluate", f"--workdir={trained}", "--num_searched=3") == 0
    found = evaluation(trained)
    assert {"copies/share", "copies/sensitivity", "copies/threshold", "copies/similarity_largest"} <= set(found["scalars"])
    assert "3 images in 3 training scans, threshold by 299 crops of 1 held-out scans" in found["protocol"]
    (rows,) = [rows for name, rows in found["tables"].items() if name.startswith("Images most alike")]
    own = {item["file"] for item in json.loads((trained / "lineage.json").read_text())["scans"] if item["split"] == "train"}
    assert [row["copy"] for row in rows] == [False] * 3 and {row["scan"] for row in rows} <= own


def test_inception_scores_of_a_run_are_those_of_the_features(trained, real_data, capsys):
    weights = real_data / "inception-fid-weights" / "inception_v3_2015_12_05_bnfolded_to_mixed7a.npz"
    assert run("--mode=evaluate", f"--workdir={trained}", f"--weights={weights}", "--features=64", "--num_searched=0") == 0
    found = evaluation(trained)
    scalars = {name.partition("/")[2]: value for name, value in found["scalars"].items() if name.startswith("inception/")}
    assert scalars["fid"] > scalars["fid_floor"] > 0 and scalars["kid_low"] < scalars["kid"] < scalars["kid_high"]
    assert 0.001 <= scalars["kid_p"] <= 1 and "64-d Inception" in found["protocol"] and "16 against 16" in found["protocol"]
    capsys.readouterr()
    assert run("--mode=evaluate", f"--workdir={trained}", f"--weights={weights}") == 1
    assert "cannot give the features 2048" in capsys.readouterr().err
    assert run("--mode=evaluate", f"--workdir={trained}", "--features=2047") == 2
    assert run("--mode=evaluate", f"--workdir={trained}", "--weights=no/such.npz") == 1


def test_scores_that_are_not_finite_or_not_comparable_choose_nothing(tmp_path):
    def save(step, *score):
        checkpoints.save(tmp_path, step, {"weights": np.ones(3, np.float32)}, checkpoints.Score(*score) if score else None)

    save(1, "kid", 0.5, "64 against 64")
    assert checkpoints.best(tmp_path) == 1
    save(2, "kid", float("nan"), "64 against 64")
    save(3)
    save(4)
    assert checkpoints.best(tmp_path) == 1 and checkpoints.steps(tmp_path) == [1, 3, 4]
    assert not checkpoints.is_best(tmp_path, checkpoints.Score("kid", 0.5, "64 against 64"))
    assert checkpoints.is_best(tmp_path, checkpoints.Score("kid", 0.4, "64 against 64"))
    assert checkpoints.is_best(tmp_path, checkpoints.Score("kid", 0.9, "256 against 256"))
    save(5, "kid", 0.9, "256 against 256")  # another protocol: what came before cannot be compared
    assert checkpoints.best(tmp_path) == 5 and checkpoints.steps(tmp_path) == [4, 5]
