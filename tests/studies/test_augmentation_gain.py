"""The study in small, with copies in the place of generated images; its fields, stages and tables."""

import json
import pathlib

import cv2
import numpy as np
import pytest

from configs import augmentation_gain_cytology
from microscopy.scan import DataError
from studies import augmentation_gain, gain_table, stages
from tests.classification.folders import striped
from training import loop
from training import workdir as workdirs
from training.errors import ConfigError, RunError
from training.signals import Stop


def small(**changes):
    """The tiny study with one seed of each classifier, and a WGAN that compiles soon."""
    config = augmentation_gain_cytology.get_config("tiny").unlock()
    config.num_seeds = 1
    config.stages.gan.train.update({"objective": "clip", "critic_updates": 1, "augment": (), "eval_every": 4})
    config.stages.gan.model.update({"critic_norm": "none", "kernel_size": 3})
    config.update(changes)
    return config


def rows_of(tables):
    return {row["by"]: row for row in tables["scores"]}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Returns (workdir, tables) of the study on the built-in cells; its other two classifiers are trained on copies below."""
    workdir = tmp_path_factory.mktemp("gain")
    augmentation_gain.run(whole().lock(), workdir, Stop())
    return workdir, json.loads((workdir / "table.json").read_text())


def whole():
    config = small(num_searched=4, num_generated=6)
    config.order = tuple(name for name in config.order if name.startswith(("gan", "real_affine")))
    return config


def test_the_study_in_small(done):
    workdir, tables = done
    rows = rows_of(tables)
    trained = set(gain_table.NAMES.values()) - {"real", "generated only"}
    assert (
        set(rows) & set(gain_table.NAMES.values()) == trained and rows["cytology, with generated (published, about)"]["accuracy"] == 0.955
    )
    for name in trained:
        row = rows[name]
        assert row["seeds"] == 1 and all(
            0 <= row[f"{score}_low"] <= row[score] <= row[f"{score}_high"] <= 1 for score in ("accuracy", "auc")
        )
        assert ("accuracy_gain" in row) == (name != "real + affine")
    counts = {
        name: len(list((workdir / "images" / name).glob("*/*.png"))) for name in ("real", "test", "candidates", "generated", "selected")
    }
    assert counts["real"] + counts["test"] == 40 and counts["candidates"] == 32 and counts["generated"] == 24
    assert counts["selected"] == sum(row["selected"] for row in tables["selection"]) and len(tables["selection"]) == 4
    mixture = [path.name for path in (workdir / "images" / "real_generated").glob("*/*.png")]
    for kind in ("real", "generated"):  # half of each class, of which there are at least 6 generated
        classes = [path for path in (workdir / "images" / kind).iterdir() if path.is_dir()]
        least = sum(max(6, len(list(folder.glob("*.png")))) if kind == "real" else 6 for folder in classes)
        assert sum(name.startswith(f"{kind}_") for name in mixture) == least
    assert tables["mixture"].startswith("Where generated images are added, half of what is drawn of each class is real. Selected: ")
    assert [row["images"] for row in tables["copies"]][0] == "generated" and "No Inception weights" in tables["distances_protocol"]
    page = (workdir / "table.md").read_text()
    assert (
        page.startswith("| by | seeds | accuracy | gain | p |")
        and "| real + affine + generated | 1 |" in page
        and tables["protocol"] in page
    )


def test_the_same_command_again_trains_and_measures_nothing(done, tmp_path, capsys):
    workdir, tables = done
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("checkpoints/*")} | {
        path: path.stat().st_mtime_ns for path in [workdir / "quality.json", *(workdir / "images").rglob("*.png")]
    }
    augmentation_gain.run(whole().lock(), workdir, Stop())
    assert json.loads((workdir / "table.json").read_text()) == tables
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert capsys.readouterr().out.count("finished at step 4") == 6  # the WGAN and real + affine twice
    lineage, stale = (workdir / "lineage.json").read_text(), "images/candidates"
    for field, stale_now in (
        ("num_generated", "real_affine_generated_seed0, real_affine_selected_seed0"),
        ("num_candidates", "real_affine_selected_seed0"),
    ):
        fewer = whole()
        fewer[field] -= 1
        files = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
        with pytest.raises(ConfigError, match=f"config.{field}: {fewer[field] + 1} there, .* now, so stale are: {stale_now}\\.") as refused:
            augmentation_gain.run(fewer.lock(), workdir, Stop())
        assert len(str(refused.value).splitlines()) == 2 and {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == files
    for changes, error, match in (({"gan_steps": 8}, RunError, "gan is to be trained"), ({"rate": 0.1}, ConfigError, "gan has changed")):
        other = whole()
        other.update({"gan_steps": changes.get("gan_steps", other.gan_steps)})
        other.stages.gan.train.critic_rate = changes.get("rate", other.stages.gan.train.critic_rate)
        with pytest.raises(error, match=f"{match}.* stale are: .*real_affine_generated_seed0, real_affine_selected_seed0, {stale}"):
            augmentation_gain.run(other.lock(), workdir, Stop())
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("checkpoints/*")}.items() <= before.items()
    with pytest.raises(ConfigError, match="holds the images of another request: "):
        augmentation_gain.run(small(control="shuffled", source=f"folder:{striped(tmp_path, 8, size=(16, 16))}").lock(), workdir, Stop())
    assert (workdir / "lineage.json").read_text() == lineage


def test_pictures_of_other_hands_stay_where_they_are(tmp_path):
    (mine := tmp_path / "run" / "images" / "real" / "across" / "0000.png").parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(ConfigError, match="holds files, such as 0000.png, without images.json"):
        augmentation_gain.run(on_stripes(tmp_path / "scans", 4, control="copies").lock(), tmp_path / "run", Stop())
    assert mine.read_bytes() == b"mine" and [path.name for path in (tmp_path / "run").rglob("*") if path.is_file()] == ["0000.png"]


def test_scans_that_are_not_of_8_bits_are_refused(tmp_path):
    config = on_stripes(tmp_path / "scans", 4)
    for path in (tmp_path / "scans").rglob("*.png"):
        cv2.imwrite(str(path), cv2.imread(str(path)).astype(np.uint16) * 200)
    with pytest.raises(DataError, match="its scans hold uint16") as error:
        augmentation_gain.run(config.lock(), tmp_path / "run", Stop())
    assert len(str(error.value).splitlines()) == 1 and not (tmp_path / "run").exists()


def test_no_test_scan_is_trained_on(done):
    workdir, _ = done
    splits = {}
    for scan in json.loads((workdir / "lineage.json").read_text())["scans"]:
        splits.setdefault(scan["split"], set()).add(scan["sha256"])
    assert splits["train"] and splits["held_out"] and not splits["train"] & splits["held_out"]
    test = {path.read_bytes() for path in (workdir / "images" / "test").glob("*/*.png")}
    for name in ("real", "candidates", "real_generated", "real_selected"):
        assert not test & {path.read_bytes() for path in (workdir / "images" / name).glob("*/*.png")}
    assert {json.loads(path.read_text())["data"]["held_out"] for path in workdir.glob("*/config.json")} == {0.0}


def on_stripes(folder, steps, **changes):
    """Two classes that a tiny network learns in a second."""
    config = small(source=f"folder:{striped(folder, 24, size=(16, 16))}", num_steps=steps, **changes)
    config.stages.classifier.train.update({"rate": 5e-3, "ema_decay": 0.9, "batch_size": 16})
    config.stages.classifier.train.update(dict.fromkeys(("save_every", "eval_every", "preview_every", "log_every"), steps))
    config.stages.classifier.model.base_width = 8
    return config


def test_copies_in_the_place_of_generated_images_score_as_the_real_ones(tmp_path):
    config = on_stripes(tmp_path / "scans", 60, control="copies")
    augmentation_gain.run(config.lock(), tmp_path / "run", Stop())
    rows = rows_of(tables := json.loads((tmp_path / "run" / "table.json").read_text()))
    assert set(rows) & set(gain_table.NAMES.values()) == {"real", "generated only"} and "copies of the real ones" in tables["protocol"]
    assert rows["generated only"]["auc_gain"] == rows["generated only"]["auc_gain_low"] == 0 and rows["generated only"]["auc_p"] == 1
    assert rows["generated only"]["accuracy"] == rows["real"]["accuracy"] > 0.9
    sums = [
        json.loads((tmp_path / "run" / f"{name}_seed0" / "status.json").read_text())["parameters_sha256"] for name in ("real", "generated")
    ]
    assert sums[0] == sums[1] and not (tmp_path / "run" / "gan").exists()


def test_a_study_is_finished_wherever_it_stands_and_however_its_folder_is_spelled(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = on_stripes(tmp_path / "scans", 4, control="copies").lock()
    augmentation_gain.run(config, "w", Stop())
    assert "warning: " not in capsys.readouterr().out.partition("Stage real_seed0")[2]  # the study has told it
    table, sums = (tmp_path / "w" / "table.json").read_text(), sorted((tmp_path / "w").glob("*/checkpoints/*/manifest.json"))
    monkeypatch.setattr(loop, "train", lambda *_, **__: pytest.fail("trained"))
    for path in (tmp_path / "w").glob("*_seed0/config.json"):
        assert json.loads(path.read_text())["data"]["source"].startswith("folder:{run}/images/")
    assert str(tmp_path / "w") not in (tmp_path / "w" / "config.json").read_text()
    augmentation_gain.run(config, tmp_path / "w", Stop())
    path = tmp_path / "w" / "real_seed0" / "config.json"
    kept = path.read_text()
    path.write_text(kept.replace("{run}", str(tmp_path / "w")))  # as earlier versions had it
    augmentation_gain.run(config, "w", Stop())
    path.write_text(kept)
    (tmp_path / "w").rename(moved := tmp_path / "moved")
    capsys.readouterr()
    augmentation_gain.run(config, moved, Stop())
    assert capsys.readouterr().out.count("finished at step 4.") == 3 and (moved / "table.json").read_text() == table
    assert len(sums) == len(sorted(moved.glob("*/checkpoints/*/manifest.json")))
    assert loop.evaluate(workdirs.read_config(moved / "real_seed0"), moved / "real_seed0").scalars


def test_shuffled_labels_give_chance_and_a_class_without_test_scans_is_named(tmp_path, capsys):
    config = on_stripes(tmp_path / "scans", 60, control="shuffled")
    striped(tmp_path / "scans", 1, size=(16, 16), classes=("across", "down", "other"), seed=1)
    config.order = ("real_seed0",)
    augmentation_gain.run(config.lock(), tmp_path / "run", Stop())
    row = rows_of(tables := json.loads((tmp_path / "run" / "table.json").read_text()))["real"]
    assert 0.2 < row["accuracy"] < 0.8
    lost = "No test scan is of the class other, which macro-F1 and AUC leave out."
    assert tables["protocol"].endswith(f" {lost}") and f"warning: {lost}\n" in capsys.readouterr().out


@pytest.mark.parametrize("case", ["no share", "one class", "one group", "all", "all groups"])
def test_scans_that_leave_too_few_classes_to_test_are_refused_before_anything_is_written(tmp_path, monkeypatch, case):
    monkeypatch.setattr(stages, "run", lambda *_: pytest.fail("trained"))
    config = on_stripes(tmp_path / "scans", 4)
    if case == "no share":
        config.held_out, match = 0.0, r"^config.held_out=0.0: no scan is left to test on; .*\n.*give one above 0"
    elif case == "one class":
        for path in sorted((tmp_path / "scans" / "down").iterdir())[1:]:
            path.unlink()
        match = r"^config.held_out=0.5: all 12 test scans are of the class across; .*\n.*two scans, or groups of them"
    elif case == "one group":
        config.stages.classifier.data.group_by, match = r"/(0)_", r"^config.held_out=0.5: no scan is left to test on; .*\n.*two scans, or"
    elif case == "all":
        config.held_out, match = 1.0, r"^config.held_out=1.0"
    else:
        config.stages.classifier.data.group_by = "/0_0.(.)"
        config.held_out, match = 0.99, "^config.held_out=0.99 and test=0.0 leave none of 10 groups of the 48 scans to train on"
    with pytest.raises((DataError, ConfigError), match=f"(?s){match}") as error:
        augmentation_gain.run(config.lock(), tmp_path / "run", Stop())
    assert len(str(error.value).splitlines()) <= 2 and "config.data." not in str(error.value) and not (tmp_path / "run").exists()


def test_what_is_said_once_holds_for_all_stages_and_seeds_differ():
    config = augmentation_gain_cytology.get_config("cpu").unlock()
    config.source, config.num_steps, config.gan_steps = "folder:a", 100, 200
    made = augmentation_gain.concrete(config, pathlib.Path("w"), list(config.order))
    assert (
        len(made.order) == 26
        and {made.stages[name].train.num_steps for name in made.order[1:]} == {100}
        and made.stages.gan.train.num_steps == 200
    )
    sources = {name: made.stages[name].data.source for name in made.order}
    assert (
        sources["gan"] == sources["real_seed3"] == "folder:w/images/real"
        and sources["real_affine_selected_seed0"] == "folder:w/images/real_selected"
    )
    assert [made.stages[f"real_seed{seed}"].seed for seed in range(5)] == [0, 1, 2, 3, 4]
    for name in made.order:
        stage = made.stages[name]
        assert stage.data.class_balanced and stage.data.value_range == "0,255" and stage.data.crop == 64 and stage.data.labels == ""
        assert ("affine" in name or name == "gan") == stage.data.mirror and (stage.data.rotation == "none") != stage.data.mirror
        assert name == "gan" or (stage.train.turn > 0) == ("affine" in name)


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("control", "copy", "config.control='copy': copies, shuffled"),
        ("mixture", "third", "config.mixture='third': choose half or files"),
        ("num_candidates", 1, "config.num_candidates=1: 4 or more"),
        ("num_seeds", 3, "config.order names no stage of seed 2"),
        ("num_bootstrap", 0, "config.num_bootstrap=0: 1 or more"),
        ("stages.gan.data.channels", 1, "config.stages.gan.data.channels=1, config.stages.classifier.data.channels=3: set both alike"),
        ("order", ("gan", "fake_seed0"), "'fake_seed0' is no stage"),
        ("order", ("generated_seed1",), "rest on gan"),
        ("order", ("gan", "real_affine_selected_seed1"), "rest on real_affine_seed0"),
    ],
)
def test_fields_that_cannot_be_are_named(field, value, match):
    config = augmentation_gain_cytology.get_config("tiny").unlock()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ConfigError, match=match) as error:
        augmentation_gain.check(config)
    assert len(str(error.value).splitlines()) == 1


def test_the_table_has_the_published_the_most_frequent_class_and_no_figure_where_there_is_none():
    config = augmentation_gain_cytology.get_config("tiny")
    labels = np.array([0, 0, 0, 1])
    tables = gain_table.tables(config, ("a", "b"), labels, {})
    assert rows_of(tables)["always a"] == {"by": "always a", "accuracy": 0.75, "macro_f1": pytest.approx(3 / 7), "auc": 0.5}
    sure = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.1, 0.9]])
    tables = gain_table.tables(config, ("a", "b"), labels, {"real_affine": {1: sure}, "real": {0: sure, 1: 1 - sure}})
    lines = gain_table.text(tables).splitlines()
    assert "| cytology, originals (published, about) | - | 0.750 | - | - | - | - | - | - | - | - |" in lines
    assert next(line for line in lines if line.startswith("| real + affine |")).startswith("| real + affine | 1 | 0.750 (")
    assert rows_of(tables)["real"]["accuracy"] == 0.5 and rows_of(tables)["real"]["accuracy_gain"] == -0.5  # of seed 1, which both have
    assert augmentation_gain.remarks(tables["scores"]) == ["Gains are of the seeds that both have, here fewer than were trained: real 1."]
    assert augmentation_gain.remarks(gain_table.tables(config, ("a", "b"), labels, {"real_affine": [sure], "real": [sure]})["scores"]) == []
    assert "gains against real + affine" in tables["protocol"] and "4 test scans (a 3, b 1)" in tables["protocol"]
