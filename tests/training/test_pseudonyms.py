"""What a run writes of patients' scans: salted ids everywhere but in names.json, which says who they are."""

import csv
import hashlib
import json
import re
import shutil
import stat
import sys
import types

import cv2
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import main
from configs import dcgan
from microscopy import preparation
from microscopy.atomic import write_json
from tools import make_crops
from training import lineage, loop, prediction, pseudonyms
from training.errors import RunError
from training.generation import Request
from training.signals import Stop
from training.task import Evaluation, Task

PATIENTS = ("ada_lovelace", "bob_miller", "eve_stone", "joe_hill")
NAMES = re.compile("|".join((*PATIENTS, "autopsy", "hospital", "slide")))


@flax.struct.dataclass
class State:
    step: jax.Array
    level: jax.Array


def table_of_scans(state, frozen, data, key) -> Evaluation:
    """As methods do: a row a scan, by its file where it has one."""
    scans = data.prepared.splits["held_out"]
    return Evaluation({"level": float(state.level)}, {"scans": [{"scan": scan.file or scan.id, "group": scan.group} for scan in scans]})


def make_task(config) -> Task:
    """The mean grey level, learned by averaging."""

    def train_step(state, frozen, batch, key):
        level = 0.5 * (state.level + batch["image"].mean())
        return State(state.step + 1, level), {"plain/level": level}

    first = State(jnp.zeros((), jnp.int32), jnp.zeros(()))
    preview = lambda state, frozen, batch, key: np.zeros((4, 8, 8, 1), np.uint8)  # noqa: E731
    return Task((), lambda key, imported: first, train_step, lambda state: state, table_of_scans, preview)


@pytest.fixture
def hospital(tmp_path):
    for number, patient in enumerate(PATIENTS):
        for slide in ("slide1", "slide2"):
            path = tmp_path / "hospital" / patient / "autopsy" / "images" / f"{slide}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng([number, len(slide), int(slide[-1])]).integers(256, size=(40, 40), dtype=np.uint8)
            assert cv2.imwrite(str(path), noise)
    return tmp_path / "hospital"


def config_of(folder, **changes):
    c = dcgan.config("test", 16, 4, "tiny").unlock()
    c.task, c.data.held_out, c.data.test = "plain_task", 0.3, 0.0
    c.data.update({"source": f"folder:{folder}", "levels": "patient/study", "crop": 16, **changes})
    c.train.update({"batch_size": 2, "num_steps": 2, "steps_per_call": 1, "log_every": 1})
    c.train.update({"preview_every": 2, "save_every": 2, "eval_every": 2})
    return c.lock()


def test_a_run_tells_no_patients_name_but_in_the_private_file(hospital, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "plain_task", types.SimpleNamespace(make_task=make_task))
    config, workdir = config_of(hospital), tmp_path / "run"
    loop.train(config, workdir, Stop())
    texts = {path.name: path.read_text() for path in workdir.iterdir() if path.suffix in (".json", ".jsonl", ".html")}
    assert {"evaluation.json", "lineage.json", "report.html", "names.json", "config.json"} <= set(texts)
    # config.json is what the same command needs; names.json is the key.
    assert {name for name, text in texts.items() if NAMES.search(text)} == {"config.json", "names.json"}
    assert "folder (names withheld)" in texts["report.html"]
    key = json.loads(texts["names.json"])
    rows = json.loads(texts["evaluation.json"])["tables"]["scans"]
    assert rows and rows[0]["scan"] in texts["report.html"]
    for row in rows:
        assert key["names"][row["group"]] in PATIENTS and key["names"][row["scan"]].startswith(f"{hospital / key['names'][row['group']]}")
    assert stat.S_IMODE((workdir / "names.json").stat().st_mode) == 0o600
    loop.evaluate(config, workdir)  # the ids are the same again: the lineage agrees
    assert json.loads((workdir / "names.json").read_text()) == key
    assert json.loads((workdir / "evaluation.json").read_text())["tables"]["scans"] == rows


def prepared_of(folder, **changes):
    config = config_of(folder, **changes)
    return config, preparation.prepare(config)


def test_ids_are_hmacs_of_the_names_under_a_salt_of_the_workdir(hospital, tmp_path):
    config, prepared = prepared_of(hospital)
    one, same, other = (pseudonyms.in_workdir(config, tmp_path / name, prepared) for name in ("a", "a", "b"))
    salt = bytes.fromhex(json.loads((tmp_path / "a" / "names.json").read_text())["salt"])
    # RFC 2104 by hand: H(key ^ opad, H(key ^ ipad, text)), blocks of 64 bytes.
    inner, outer = (bytes(byte ^ pad for byte in salt.ljust(64, b"\0")) for pad in (0x36, 0x5C))
    for scan, hidden, again, else_where in zip(*(made.splits["train"] for made in (prepared, one, same, other)), strict=True):
        digest = hashlib.sha256(outer + hashlib.sha256(inner + scan.id.encode()).digest()).hexdigest()
        assert hidden.id == digest[:16] == again.id != else_where.id and hidden.file == "" and hidden.group != scan.group
        assert hidden.sha256 == scan.sha256 and hidden.pixels is scan.pixels
    assert set(one.facts) == {scan.id for part in one.splits.values() for scan in part}


def test_names_stay_where_they_are_asked_for_or_where_there_are_no_groups(hospital, tmp_path):
    for changes in ({"names": True}, {"levels": "", "source": f"folder:{hospital / 'ada_lovelace' / 'autopsy'}"}):
        config, prepared = prepared_of(hospital, **changes)
        assert pseudonyms.in_workdir(config, tmp_path / "run", prepared) is prepared
        assert pseudonyms.source(config.data, prepared) == config.data.source and not pseudonyms.paths(config.data, prepared)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("changes", [{"levels": "class/study"}, {"levels": "class/study", "group_by": "^([a-z]+)"}])
def test_studies_and_groups_found_in_ids_are_names_too(hospital, tmp_path, changes):
    config, prepared = prepared_of(hospital, **changes)
    hidden = pseudonyms.in_workdir(config, tmp_path / "run", prepared)
    assert not any(NAMES.search(repr((scan.id, scan.group, scan.file))) for part in hidden.splits.values() for scan in part)
    lineage.write(tmp_path / "run", hidden.splits, [])
    lineage.compare(tmp_path / "run", prepared.splits)  # by whatever ids
    some = {name: part[1:] for name, part in prepared.splits.items()}
    with pytest.raises(RunError, match="differ"):
        lineage.compare(tmp_path / "run", some)


def test_groups_are_found_in_names_of_other_hands_alone(tmp_path):
    for number in range(6):
        path = tmp_path / "real" / "train" / "images" / f"{number:04d}_0.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.random.default_rng(number).integers(256, size=(40, 40), dtype=np.uint8))
    config, prepared = prepared_of(path.parent, levels="", group_by="^([0-9]+)_")
    assert pseudonyms.wanted(config.data, prepared)
    write_json(tmp_path / "real" / "real.json", {})
    assert not pseudonyms.wanted(config.data, prepared)


def test_a_run_begun_by_names_goes_on_by_them(hospital, tmp_path):
    """Earlier versions kept the names of studies."""
    config, prepared = prepared_of(hospital, levels="class/study")
    (tmp_path / "run" / "checkpoints" / "4").mkdir(parents=True)
    assert pseudonyms.in_workdir(config, tmp_path / "run", prepared) is prepared


def test_groups_of_a_table_are_names_too(hospital, tmp_path):
    table = tmp_path / "hospital.csv"
    table.write_text("file,label,patient\n" + "".join(f"{name}/autopsy/slide1,x,{name}\n" for name in PATIENTS))
    config, prepared = prepared_of(hospital, levels="class/study", labels=str(table), classes="x")
    hidden = pseudonyms.in_workdir(config, tmp_path / "run", prepared)
    assert not any(NAMES.search(repr((scan.id, scan.group, scan.file))) for part in hidden.splits.values() for scan in part)
    assert pseudonyms.paths(config.data, prepared) == {"labels": "labels (withheld)", "source": "folder (names withheld)"}


def test_a_private_file_without_salt_is_an_error(hospital, tmp_path):
    config, prepared = prepared_of(hospital)
    (tmp_path / "names.json").write_text('{"salt": "12"}')
    with pytest.raises(RunError, match="names.json cannot be read: it holds no salt"):
        pseudonyms.in_workdir(config, tmp_path, prepared)


def refused(hospital):
    (hospital / "joe_hill" / "autopsy" / "images" / "slide3.png").write_bytes(b"no picture")


def test_an_inspection_and_the_first_lines_of_a_run_tell_ids(hospital, tmp_path, monkeypatch, capsys):
    refused(hospital)
    flags = [f"--config.data.{name}={value}" for name, value in config_of(hospital).data.items() if name in ("source", "levels", "crop")]
    argv = ["main.py", "--mode=inspect", "--config=configs/classifier.py:tiny", "--config.data.rotation=none", *flags]
    argv += ["--config.data.height=16", "--config.data.width=16"]
    assert main.run(argv) == 0
    bare = capsys.readouterr().out
    assert not NAMES.search(bare) and "1 refused" in bare and pseudonyms.WITHHELD.split(";")[0] in " ".join(bare.split())
    assert main.run([*argv, f"--workdir={tmp_path / 'seen'}"]) == 0
    told, key = capsys.readouterr().out, json.loads((tmp_path / "seen" / "names.json").read_text())["names"]
    rows = json.loads((tmp_path / "seen" / "inspect.json").read_text())
    assert not NAMES.search(told) and not NAMES.search((tmp_path / "seen" / "inspect.json").read_text())
    assert sorted(key[row["id"] or row["file"]].partition(": ")[0] for row in rows) == sorted(map(str, hospital.rglob("*.png")))
    assert main.run([*argv, "--config.data.names=true"]) == 0
    asked = capsys.readouterr().out
    assert all(patient in asked for patient in PATIENTS)
    monkeypatch.setitem(sys.modules, "plain_task", types.SimpleNamespace(make_task=make_task))
    loop.train(config_of(hospital, skip_bad=True), tmp_path / "run", Stop())
    begun = capsys.readouterr().out
    assert "folder (names withheld)" in begun and not NAMES.search(begun)


def test_predictions_of_a_run_on_patients_are_told_by_ids(hospital, tmp_path):
    config, output = config_of(hospital), tmp_path / "out"
    _, prepared = prepared_of(hospital)
    pseudonyms.in_workdir(config, tmp_path / "run", prepared)
    write_json(tmp_path / "run" / "classes.json", {"classes": ["sick", "well"]})
    write_json(tmp_path / "run" / "config.json", {"task": "any", "data": {}})
    for name in ("ada_lovelace", "sick"):  # a patient's folder and a class's
        (tmp_path / "new" / name).mkdir(parents=True)
        (tmp_path / "new" / name / "slide_of_bob.png").write_bytes(next(hospital.rglob("*.png")).read_bytes())
    renamed = pseudonyms.renaming(tmp_path / "run", output)
    request = prediction.Request(str(tmp_path / "new"), str(output), renamed=renamed)
    seen = []
    for _ in range(2):  # the second finds everything there
        prediction.run(
            request, prediction.options(request), lambda file: ("_c.csv",), lambda scan: seen.append(scan) or one(scan), max_pixels=10**6
        )
    assert len(seen) == 2
    files = [path for path in output.rglob("*") if path.is_file()]
    assert len(files) == 3 and not any(NAMES.search(f"{path.relative_to(output)} {path.read_text()}") for path in files)
    assert len(renamed({"asked": "for"}, False)) == 1 and "asked" not in (tmp_path / "out.names.json").read_text()
    key = json.loads((tmp_path / "out.names.json").read_text())
    assert [scan.id.partition("/")[0] for scan in seen if "/" in scan.id] == ["sick"]
    assert {key["names"][scan.id.rpartition("/")[2]] for scan in seen} == {scan.file for scan in seen}
    assert key["salt"] == json.loads((tmp_path / "run" / "names.json").read_text())["salt"]
    assert stat.S_IMODE((tmp_path / "out.names.json").stat().st_mode) == 0o600
    assert pseudonyms.renaming(tmp_path / "run_without_patients", output) is None


def one(scan):
    return {"_c.csv": f"id\n{scan.id}\n".encode()}


def test_a_classifiers_table_tells_no_patient(hospital, tmp_path, capsys):
    """By the command line: classes are folders in the patients' folders."""
    for path in list(hospital.rglob("*.png")):
        kind = "sick" if path.stem == "slide1" else "well"
        (path.parents[2] / kind).mkdir(exist_ok=True)
        path.rename(path.parents[2] / kind / path.name)
    for study in [path for path in hospital.glob("*/*") if path.name not in ("sick", "well")]:
        shutil.rmtree(study)  # where classes are folders, one without images is an error
    flags = {
        "data.source": f"folder:{hospital}",
        "data.levels": "patient/class",
        "data.held_out": 0.0,
        "train.num_steps": 2,
        "data.rotation": "none",
    }
    flags |= dict.fromkeys(("train.log_every", "train.save_every", "train.eval_every", "train.preview_every"), 2)
    argv = [
        "main.py",
        "--config=configs/classifier.py:tiny",
        f"--workdir={tmp_path / 'run'}",
        *(f"--config.{k}={v}" for k, v in flags.items()),
    ]
    assert main.run(argv) == 0
    new = tmp_path / "new"
    for path in hospital.rglob("*.png"):
        (new / path.parts[-3]).mkdir(parents=True, exist_ok=True)
        (new / path.parts[-3] / path.name).write_bytes(path.read_bytes())
    assert main.run(["main.py", "--mode=predict", f"--workdir={tmp_path / 'run'}", f"--input={new}", f"--output={tmp_path / 'out'}"]) == 0
    assert not NAMES.search(capsys.readouterr().out)
    texts = [path.read_text() for path in (tmp_path / "out").rglob("*.*")]
    assert len(texts) == 10 and not any(NAMES.search(text) for text in texts)
    with open(tmp_path / "out" / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    key = json.loads((tmp_path / "out.names.json").read_text())["names"]
    assert len(rows) == 8 and {row["file"] for row in rows} == {""} and {row["predicted"] for row in rows} <= {"sick", "well"}
    assert {key[row["id"]] for row in rows} == set(map(str, new.rglob("*.png")))


def test_a_folder_of_crops_tells_no_names(hospital, tmp_path):
    request = Request(num_images=1, seed=0, output=str(tmp_path / "crops"))
    make_crops.write_crops(config_of(hospital), request, crops_per_scan=1, size=16)
    with open(tmp_path / "crops" / "index.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows and not any(row["source"] for row in rows)
    assert not any(NAMES.search(path.read_text()) for path in (tmp_path / "crops").iterdir() if path.suffix in (".csv", ".json"))
    assert set(json.loads((tmp_path / "crops.names.json").read_text())["names"]) >= {row["scan"] for row in rows}
