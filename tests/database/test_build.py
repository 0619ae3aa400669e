"""The whole chain in small, through the command line: made once, left alone after, made anew where it must be, stopped and gone on."""

import csv
import dataclasses
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import ml_collections
import numpy as np
import pytest

import input_pipeline
import main
from configs import stm_database
from database import build, catalogue, downstream, index, making, real, stages, trainings
from microscopy import formats, simulator
from microscopy.labelme import write_labelme
from microscopy.normalisation import ValueMap
from segmentation import exported, inference
from training import lineage, pseudonyms
from training.signals import Stop

ROOT = pathlib.Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("SCANFORGE_KILLS", "4"))
"""10 kills at every point; the stages that train on scans are killed in tests/test_resume.py."""
POINTS = (
    "stages/real.json",
    "real/train/images/*.png",
    "database/images/*.png",
    "stages/scores.json",
    "unet_database/checkpoints/*",
    "unet_database/status.json",
    "unet_real/metrics.jsonl",
    "stages/downstream.json",
    "downstream_database.png",
    "unet_database.safetensors",
)
"""What appears in this order; a moment after it has, the process is killed: as a stage begins, in a folder of images, in a training."""
RESULTS = ("scores.json", "downstream.json", "downstream_database.png", "downstream_real.png", "unet_database.safetensors")
ORDER = ("dcgan", "superres_before", "superres", "real", "database", "scores", "unet_database", "unet_real", "downstream")


def run(workdir, *words):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return main.run(["main.py", "--config=configs/stm_database.py:tiny", f"--workdir={workdir}", *words])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("chain") / "w"
    assert run(workdir) == 0
    return workdir


@pytest.fixture
def workdir(finished, tmp_path):
    """A copy elsewhere: what is finished does not depend on where it lies."""
    shutil.copytree(finished, tmp_path / "w")
    return tmp_path / "w"


def contents(workdir):
    return {
        str(path.relative_to(workdir)): path.read_bytes() for path in workdir.rglob("*") if path.is_file() and path.name != "status.json"
    }


def read(workdir, name):
    return json.loads((workdir / name).read_text())


def test_every_stage_stands_and_the_report_is_written(finished):
    assert [stages.read(finished, name)["state"] for name in ORDER] == ["finished"] * 9
    assert read(finished, "status.json")["state"] == "finished" and (finished / "report.html").read_text().startswith("<!DOCTYPE html>")
    scores, found = read(finished, "scores.json"), read(finished, "downstream.json")
    assert scores["surface"]["n_real"] == scores["surface"]["n_generated"] == 8 and "No Inception weights" in scores["note"]
    assert [row["by"] for row in found["rows"]][:2] == ["database", "real"] and len(found["scans"]) == 2
    assert all({"dice", "ap50", "diameter_error"} <= row.keys() and 0 <= row["dice"] <= 1 for row in found["rows"])
    assert len(list((finished / "database" / "labels").iterdir())) == len(list((finished / "database" / "heights").iterdir())) == 12
    assert formats.read_image(finished / "downstream_database.png", max_pixels=10**8).ndim == 3


def test_all_stages_split_the_scans_alike_and_no_judging_scan_is_behind_one(finished):
    splits = [{(s["sha256"], s["split"]) for s in lineage.read(finished / name)["scans"]} for name in build.SCAN_READERS]
    assert splits[0] == splits[1] == splits[2] and len(splits[0]) == 6
    unseen = {sha256 for sha256, split in splits[0] if split != "train"}
    behind = {scan["sha256"] for scan in lineage.behind(lineage.read(finished / "unet_database")) if scan["split"] == "train"}
    assert behind >= {sha256 for sha256, split in splits[0] if split == "train"} and not behind & unseen
    numbered = read(finished, "real/real.json")["scans"]
    used = {part: {path.name[:4] for path in (finished / "real" / part / "images").iterdir()} for part in ("train", "scored", "whole")}
    assert {numbered[number]["split"] for number in used["train"]} == {"train"}
    assert {numbered[number]["sha256"] for number in used["whole"]} == unseen and used["scored"] <= used["whole"]


def test_the_same_command_again_changes_nothing(workdir):
    before = contents(workdir)
    assert run(workdir) == 0
    after = contents(workdir)
    assert sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)) == []


def test_a_changed_setting_lists_what_is_stale_and_stops(workdir, capsys):
    before = contents(workdir)
    assert run(workdir, "--config.stages.dcgan.train.generator_rate=0.001") == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "stage dcgan has changed: train.generator_rate: 0.0002 there, 0.001 now."
    assert lines[1] == "Stale with it: database, scores, unet_database, downstream." and len(lines) == 3
    assert (
        run(workdir, "--config.data.num_simulated=7") == 2 and "Stale with it: superres_before, superres, real" in capsys.readouterr().err
    )
    assert before == contents(workdir)


def test_rebuild_makes_just_what_is_stale(workdir):
    before = contents(workdir)
    assert run(workdir, "--config.stages.scores.num_images=6", "--config.resume=rebuild") == 0
    after = contents(workdir)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed == {"scores.json", "stages/scores.json", "config.json", "report.html"}
    assert read(workdir, "scores.json")["surface"]["n_generated"] == 6


def by_hand(workdir):
    """Takes one label drawn by hand into the database, its bytes returned."""
    drawn = np.zeros((64, 64), np.int32)
    drawn[10:30, 10:30] = 1
    (workdir / "drawn").mkdir()
    write_labelme(workdir / "drawn" / "000003.json", drawn, labels="particle", image="000003.png")
    assert catalogue.main(["label", str(workdir / "database"), f"--labels={workdir / 'drawn'}"]) == 0
    return (workdir / "database" / "labels" / "000003.png").read_bytes()


def test_after_labels_by_hand_what_reads_them_is_listed_and_made_anew(workdir, capsys):
    for name in ("real/train/images/.DS_Store", "real/whole/images/.0001.png.7.tmp"):
        (workdir / name).write_bytes(b"x")
    before = contents(workdir)
    assert run(workdir) == 0 and contents(workdir) == before  # hidden files change nothing
    label = by_hand(workdir)
    capsys.readouterr()
    assert run(workdir) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("stage scores has changed: it was made with other database/")
    assert lines[1] == "Stale with it: unet_database, downstream." and (workdir / "report.html").read_bytes() == before["report.html"]
    kept = [(workdir / name).stat().st_ino for name in ("database/database.json", "stages/unet_real.json")]
    assert run(workdir, "--config.resume=rebuild") == 0
    assert kept == [(workdir / name).stat().st_ino for name in ("database/database.json", "stages/unet_real.json")]
    assert (workdir / "database" / "labels" / "000003.png").read_bytes() == label
    assert {row["label_origin"] for row in index.read(workdir / "database").rows} == {"generated field", "hand"}
    assert run(workdir) == 0
    capsys.readouterr()
    assert run(workdir, "--config.stages.database.num_images=10", "--config.resume=rebuild") == 0
    assert "database.by-hand" in capsys.readouterr().out
    assert (workdir / "database.by-hand" / "labels" / "000003.png").read_bytes() == label
    assert [len(index.read(workdir / name).rows) for name in ("database.by-hand", "database")] == [12, 10]


def test_a_database_that_was_interrupted_is_the_same_in_the_end(workdir, monkeypatch):
    before = contents(workdir / "database")
    config = stm_database.get_config("tiny")
    plan = {stage.name: stage for stage in build.planned(build.begun(config, workdir))}
    stages.remove(plan["database"], workdir)
    stop, computed = Stop(), making._computed

    def interrupted(*arguments):
        stop.signal = 15
        return computed(*arguments)

    monkeypatch.setattr(making, "_computed", interrupted)
    build.run(config, workdir, stop)
    assert read(workdir, "status.json")["state"] == "interrupted" and stages.read(workdir, "database")["state"] == "begun"
    monkeypatch.undo()
    monkeypatch.setattr("database.page.page", lambda workdir: "<!DOCTYPE html>")
    build.run(config, workdir, Stop())
    assert contents(workdir / "database") == before and read(workdir, "status.json")["state"] == "finished"


def started(workdir):
    command = [sys.executable, "main.py", "--config=configs/stm_database.py:tiny", f"--workdir={workdir}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def left(workdir):
    """File -> content of the database, the real crops and all results; stage -> SHA-256 of what it left."""
    files = [path for name in ("database", "real") for path in (workdir / name).rglob("*") if path.is_file()]
    found = {str(path.relative_to(workdir)): path.read_bytes() for path in [*files, *(workdir / name for name in RESULTS)]}
    return found | {name: stages.read(workdir, name)["outputs"] for name in ORDER}


def test_killed_in_later_stages_and_begun_again_it_leaves_what_its_twin_leaves(finished, workdir):
    draw, killed = random.Random(0), []
    for stage in build.planned(build.begun(stm_database.get_config("tiny"), workdir))[3:]:
        stages.remove(stage, workdir)
    (workdir / "report.html").unlink()
    assert not (workdir / "database").exists() and not (workdir / "unet_real").exists()
    for point in sorted(draw.sample(POINTS, min(KILLS, len(POINTS))), key=POINTS.index):
        with started(workdir) as process:
            while process.poll() is None and not any(workdir.glob(point)):
                time.sleep(0.002)
            time.sleep(draw.random() * 0.1)
            process.kill()
            output, _ = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), output
        killed += [point] * (process.returncode != 0)
    assert len(killed) >= min(KILLS, len(POINTS)) - 1, killed
    with started(workdir) as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    assert (workdir / "report.html").exists()
    there, here = left(finished), left(workdir)
    assert sorted(name for name in there.keys() | here.keys() if there.get(name) != here.get(name)) == []


def test_a_judging_scan_behind_the_generator_stops_the_chain_by_name(workdir, capsys):
    path = workdir / "dcgan" / "lineage.json"
    found = json.loads(path.read_text())
    leaked = next(scan for scan in found["scans"] if scan["split"] == "test")
    leaked["split"] = "train"
    path.write_text(json.dumps(found))
    (workdir / "stages" / "database.json").unlink()
    assert run(workdir) == 1
    assert leaked["id"] in capsys.readouterr().err


def test_scans_without_masks_and_bilinear_leave_out_what_has_no_use(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    for i in range(5):
        np.save(folder / f"scan{i}.npy", np.random.default_rng(i).integers(0, 255, (190, 190)).astype(np.uint8))
    config = stm_database.get_config("tiny").unlock()
    config.data.source, config.upscaler = f"folder:{folder}", "bilinear"
    chain = build.begun(config.lock(), tmp_path)
    assert chain.config.stages.dcgan.data.label_field == "none" and not chain.like.masks
    assert [stage.name for stage in build.planned(chain)] == ["dcgan", "real", "database", "scores", "unet_database", "downstream"]
    assert chain.config.stages.unet_database.data.source == "stage:database/images"
    config.unlock()
    config.labels = "distance"
    with pytest.raises(build.ConfigError, match="5 of 5 scans have no mask.*\n.*Name the masks' folder"):
        build.begun(config.lock(), tmp_path)


def test_of_patients_no_name_is_in_anything_that_is_passed_on(tmp_path, capsys):
    """Salted ids, the same in every stage; who is who stands in names.json, where the scans lie in the configs."""
    folder, workdir = tmp_path / "clinic", tmp_path / "w"
    folder.mkdir()
    for i in range(6):
        np.save(folder / f"mueller{i // 2}_{i}.npy", np.random.default_rng(i).integers(0, 255, (300, 300)).astype(np.uint8))
    words = (f"--config.data.source=folder:{folder}", "--config.data.group_by=^(mueller[0-9])_", "--config.upscaler=bilinear")
    words += ("--config.stages.database.refuse_copies=true", "--config.data.skip_bad=true")
    (folder / "mueller9_cut.png").write_bytes(b"\x89PNG")
    assert run(workdir, *words) == 0, capsys.readouterr().err
    named = {
        path.relative_to(workdir).as_posix()
        for path, content in ((path, path.read_bytes()) for path in workdir.rglob("*") if path.is_file())
        if b"mueller" in content.replace(b"^(mueller[0-9])_", b"") or b"clinic" in content
    }
    private = {name for name in named if name.endswith("names.json")}
    assert {"names.json", "dcgan/names.json"} <= private and all((workdir / name).stat().st_mode & 0o077 == 0 for name in private)
    assert {name for name in named - private if not name.startswith("stages/") and not name.endswith("config.json")} == set()
    ids = {scan["id"] for scan in read(workdir, "dcgan/lineage.json")["scans"]}
    assert len(ids) == 6 and {scan["id"] for scan in read(workdir, "real/real.json")["scans"].values()} == ids
    assert set(read(workdir, "downstream.json")["scans"]) < ids
    assert {row["nearest"] for row in csv.DictReader((workdir / "database" / "index.csv").read_text().splitlines())} < ids
    (refused,) = read(workdir, "real/real.json")["refused"]
    report = (workdir / "report.html").read_text()
    assert refused["reason"] == pseudonyms.WITHHELD and refused["file"] in report and "Files left out: 1" in report
    assert "nearest scan, whole" in report
    before = contents(workdir)
    assert run(workdir, *words) == 0 and contents(workdir) == before
    leaked = read(workdir, "dcgan/lineage.json")
    next(scan for scan in leaked["scans"] if scan["split"] == "test")["split"] = "train"
    (workdir / "dcgan" / "lineage.json").write_text(json.dumps(leaked))
    (workdir / "stages" / "database.json").unlink()
    capsys.readouterr()
    assert run(workdir, *words) == 1 and "mueller" in capsys.readouterr().err  # printed for whom it is told, and not written
    assert read(workdir, "status.json")["state"] == "failed" and "mueller" not in (workdir / "status.json").read_text()


def test_a_damaged_file_that_is_skipped_is_listed_with_its_reason(tmp_path):
    config = partly_masked(tmp_path / "scans", 3, 5)
    (tmp_path / "scans" / "cut.png").write_bytes(b"\x89PNG")
    config.data.skip_bad = True
    (refused,) = build._left_out(build.begun(config, tmp_path))["refused"]
    assert refused["file"] == str(tmp_path / "scans" / "cut.png") and "another kind of file" in refused["reason"]


def partly_masked(folder, masked, scans):
    """Returns the tiny chain's config for a folder of so many noise scans, the first `masked` of which have a mask."""
    (folder / "masks").mkdir(parents=True)
    for i in range(scans):
        np.save(folder / f"scan{i}.npy", np.random.default_rng(i).integers(0, 255, (190, 190)).astype(np.uint8))
        if i < masked:
            np.save(folder / "masks" / f"scan{i}.npy", np.pad(np.ones((50, 50), np.uint16), 70))
    config = stm_database.get_config("tiny").unlock()
    config.data.source = f"folder:{folder}"
    return config


def test_where_some_scans_have_masks_these_alone_are_learned_from(tmp_path, capsys):
    config = partly_masked(tmp_path / "scans", 3, 8)
    chain = build.begun(config, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("5 of 8 scans have no mask and are left out") and "--config.labels=none" in lines[1]
    parts = chain.prepared.splits
    assert {scan.id for part in parts.values() for scan in part} == {"scan0", "scan1", "scan2"} and chain.like.masks
    assert len(parts["train"]) == len(parts["held_out"]) == len(parts["test"]) == 1
    assert chain.config.stages.dcgan.data.label_field == "distance" and "unet_real" in [stage.name for stage in build.planned(chain)]
    for name in build.SCAN_READERS:
        assert [scan.id for scan in input_pipeline.prepare(chain.config.stages[name]).splits["train"]] == [parts["train"][0].id]
    section = ml_collections.ConfigDict({"num_crops": 4, "num_scored": 6})
    left_out = build._left_out(chain)
    real.write(tmp_path / "w" / "real", chain.prepared, left_out, chain.config.stages.dcgan.data, chain.like, section, 0, Stop())
    found = read(tmp_path / "w", "real/real.json")
    assert found["left_out_without_mask"] == 5 and "refused" not in found
    config.labels = "none"
    assert sum(map(len, build.begun(config, tmp_path).prepared.splits.values())) == 8
    assert "5 of 8 scans have no mask: images are labelled by a threshold" in capsys.readouterr().out


def test_too_few_masks_are_told_and_not_used(tmp_path, capsys):
    config = partly_masked(tmp_path, 2, 5)
    assert build._prepared(config)[1] is False
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("3 of 5 scans have no mask: images are labelled by a threshold") and lines[1].startswith(
        "Too few have one (2)"
    )
    config.labels = "distance"
    with pytest.raises(build.ConfigError, match="3 of 5 scans have no mask.*\n.*Too few have one"):
        build._prepared(config)


def test_without_masks_the_picture_alone_shows_the_unet(workdir):
    prepared = build.begun(stm_database.get_config("tiny"), workdir).prepared
    splits = {name: [dataclasses.replace(scan, mask=None) for scan in scans] for name, scans in prepared.splits.items()}
    downstream.write(workdir, ("unet_database",), dataclasses.replace(prepared, splits=splits), "last")
    found = read(workdir, "downstream.json")
    assert found["rows"] == [] and "no masks" in found["note"] and found["pictures"] == {"database": "downstream_database.png"}
    assert formats.read_image(workdir / "downstream_database.png", max_pixels=10**8).shape[0] == 256


def test_the_exported_unet_takes_scans_as_they_come(workdir):
    network, _ = exported.load(workdir / "unet_database.safetensors")
    chain = build.begun(stm_database.get_config("tiny"), workdir)
    assert network.data.levelling == "auto" and network.value_map.unit == "nm"
    assert network.data.source == "folder:scans" and network.data.masks == ""  # no place of this machine
    raw = simulator.simulated_scans(simulator.SimulatorSettings(), num_scans=1, seed=3)[0]
    found = inference.segment(network, raw)
    assert found.probability.shape == raw.pixels.shape and np.isclose(network.value_map.nm_per_pixel[0], 128 / 32 * 0.25)
    assert chain.like.value_map.nm_per_pixel[0] == pytest.approx(128 / 64 * 0.25)


def test_the_exported_unet_of_grey_scans_with_a_scale_keeps_it(tmp_path):
    for i in range(5):
        np.save(tmp_path / f"scan{i}.npy", np.random.default_rng(i).integers(0, 255, (190, 190)).astype(np.uint8))
    for nm, config in ((nm, stm_database.get_config("tiny").unlock()) for nm in (0.0, 2.0)):
        config.data.source, config.data.nm_per_pixel = f"folder:{tmp_path}", nm
        chain = build.begun(config.lock(), tmp_path)
        unet = chain.config.stages.unet_database.copy_and_resolve_references().unlock()
        value_map = downstream.for_scans(unet, ValueMap(0.0, 255.0, "grey", (0, 0)), chain.config.data, chain.prepared, chain.like)
        network = inference.Network(None, unet.data, value_map, 0, 1, 1)
        assert inference.scale_factors(None, network) == (32 / 128, 32 / 128)  # a crop of 128 px of a scan became 32
        assert value_map.nm_per_pixel == ((8.0, 8.0) if nm else None)
        assert inference.scale_factors((4.0, 4.0), network) == ((0.5, 0.5) if nm else (0.25, 0.25))


def test_a_whole_scan_keeps_its_particles_in_place(tmp_path):
    chain = build.begun(stm_database.get_config("tiny"), tmp_path)
    scan = real.unseen_scans(chain.prepared)[0]
    image, mask = real.whole(scan, chain.prepared, chain.like)
    ratio = chain.like.size / chain.prepared.crop[0]
    assert image.shape[:2] == mask.shape == tuple(round(side * ratio) for side in scan.pixels.shape)
    for number in np.unique(scan.mask)[1:]:
        if np.sum(scan.mask == number) * ratio**2 > 20:
            centres = [np.mean(np.nonzero(one == number), axis=1) for one in (scan.mask, mask)]
            assert np.allclose((centres[0] + 0.5) * ratio - 0.5, centres[1], atol=0.6)
    assert image[..., 0][mask > 0].mean() > image[..., 0][mask == 0].mean() + 0.2


def test_the_upscaler_goes_on_from_weights_that_no_judging_scan_chose(tmp_path):
    placed = trainings.placed(stm_database.get_config("tiny").stages.superres, tmp_path)
    assert placed.init_from == f"{tmp_path / 'superres_before'}@last"


def test_the_exported_map_is_the_two_maps_in_turn():
    first, second = ValueMap(10.0, 4010.0, "grey", (0, 0), dtype="uint16"), ValueMap(25.0, 230.0, "grey", (0, 0), dtype="uint8")
    values = np.linspace(300, 3500, 50)
    stored = (first.to_unit(values).astype(np.float64) + 1) * 127.5
    both = downstream.through(second, first)
    assert both.dtype == "uint16" and np.allclose(both.to_unit(values), second.to_unit(stored), atol=1e-5)
