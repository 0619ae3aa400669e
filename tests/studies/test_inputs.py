"""What stages read: finished ones stand only while they would read the same, also where an earlier version trained them."""

import json
import shutil

import cv2
import ml_collections
import numpy as np
import pytest

import input_pipeline
from configs import classifier
from microscopy.atomic import write_json
from microscopy.fields import OPTIONS
from studies import inputs, stages
from tests.classification.folders import striped
from training import devices, lineage, loop
from training import workdir as workdirs
from training.errors import RunError
from training.signals import Stop


def stage_of(place, **changes):
    stage = classifier.get_config("tiny").unlock()
    stage.data.update({"source": f"folder:{place}", "held_out": 0.5, **changes})
    stage.train.num_steps = 4
    return stage


def config_of(**of_stages):
    return ml_collections.ConfigDict({"name": "x", "task": "studies.stages", "order": tuple(of_stages), "stages": of_stages}).lock()


def finish(workdir, name, stage, *, without=()):
    """What a finished training leaves, as far as stages look; `without` the fields that its version did not have."""
    folder = workdir / name
    (folder / "checkpoints" / "4").mkdir(parents=True)
    told = workdirs.plain(devices.with_dtype(stage))
    told["data"] = {field: value for field, value in told["data"].items() if field not in without}
    write_json(folder / "config.json", told)
    write_json(folder / "status.json", {"state": "finished", "step": 4})
    write_json(folder / "lineage.json", lineage.record(input_pipeline.prepare(stage).splits, []))


@pytest.fixture
def trained(monkeypatch):
    """Returns the names of the stages that would be trained."""
    seen = []
    monkeypatch.setattr(loop, "train", lambda stage, folder, stop, warned: seen.append(folder.name))
    return seen


def test_a_digest_is_of_contents_and_names_not_of_places(tmp_path):
    source = striped(tmp_path / "a", 3)
    for name in ("across", "down"):
        (source / name / "masks").mkdir()
        cv2.imwrite(str(source / name / "masks" / "0_000.png"), np.eye(20, 24, dtype=np.uint8))
    moved = shutil.copytree(source, tmp_path / "b")
    data = [stage_of(place, use_masks=False).data for place in (source, moved)]
    masked = stage_of(source, use_masks=True).data
    first, with_masks = inputs.digest(data[0]), inputs.digest(masked)
    assert first == inputs.digest(data[1]) != with_masks
    (moved / "down" / "0_001.png").rename(moved / "across" / "0_001b.png")
    assert inputs.digest(data[1]) != first
    cv2.imwrite(str(source / "down" / "masks" / "0_000.png"), np.ones((20, 24), np.uint8))
    assert inputs.digest(data[0]) == first and inputs.digest(masked) != with_masks
    select = tmp_path / "some.txt"
    select.write_text("across/0_000\n")
    assert inputs.digest(stage_of(source, select=str(select)).data) != first
    table = tmp_path / "labels.csv"
    table.write_text("file,label\nacross/0_000,x\n")
    labelled = stage_of(source, labels=str(table)).data
    before = inputs.digest(labelled)
    table.write_text("file,label\nacross/0_000,y\n")
    assert inputs.digest(labelled) != before != first
    assert inputs.digest(stage_of(source, source="cells").data) != first


@pytest.mark.parametrize("change", ["another image", "one more", "one less"])
def test_a_finished_stage_of_other_images_is_stale(tmp_path, trained, capsys, change):
    source, workdir = striped(tmp_path / "scans", 4), tmp_path / "w"
    config = config_of(one=stage_of(source), other=stage_of(striped(tmp_path / "else", 4)))
    for name in config.order:  # as earlier versions left them
        finish(workdir, name, config.stages[name], without=OPTIONS)
    stages.run(config, workdir, Stop())
    assert not trained and capsys.readouterr().out.count("finished at step 4") == 2 and (workdir / "one" / "inputs.json").exists()
    files = sorted(source.rglob("*.png"))
    for kept in (True, False):  # by inputs.json, and by lineage.json alone
        if kept and change == "another image":
            cv2.imwrite(str(files[0]), np.zeros((20, 24, 3), np.uint8))
        elif kept and change == "one more":
            shutil.copy(files[0], files[0].with_name("new.png"))
        elif kept:
            files[0].unlink()
        else:
            (workdir / "one" / "inputs.json").unlink()
        with pytest.raises(RunError, match=r"(?s)^stage one was trained on other images.*stale are: one\.\nDelete \S+one to") as error:
            stages.run(config, workdir, Stop())
        assert len(str(error.value).splitlines()) == 2 and not trained
    shutil.rmtree(workdir / "one")
    stages.run(config, workdir, Stop())
    assert trained == ["one"]
    assert json.loads((workdir / "one" / "inputs.json").read_text())["sha256"] == inputs.digest(config.stages.one.data)


def test_what_is_made_of_a_stage_is_told_before_that_is_trained_again(tmp_path, trained):
    """One makes W/made, of which two is trained; three rests on neither."""
    workdir, rests = tmp_path / "w", {"made": ("one",), "two": ("made",)}
    config = config_of(**{name: stage_of(striped(tmp_path / name, 4)) for name in ("one", "two", "three")})
    for name in config.order:
        finish(workdir, name, config.stages[name])
    (workdir / "made").mkdir()
    changed = config.copy_and_resolve_references().unlock()
    changed.stages.one.train.rate = 0.5
    with pytest.raises(Exception, match=r"stage one has changed, so stale are: one, two, made\.") as error:
        stages.run(changed, workdir, Stop(), ["one"], rests)
    longer = config.copy_and_resolve_references().unlock()
    longer.stages.one.train.num_steps = 8
    with pytest.raises(RunError, match=r"stage one is to be trained, so stale are: two, made\."):
        stages.run(longer, workdir, Stop(), ["one"], rests)
    assert not trained
    for name in ("one", "two", "made"):  # the first remedy, taken at its word
        assert str(workdir / name) in str(error.value)
        shutil.rmtree(workdir / name)
    stages.run(changed, workdir, Stop(), None, rests)
    assert trained == ["one", "two"]
    assert set(json.loads((workdir / "config.json").read_text())["stages"]) == {"one", "two", "three"}


def test_part_of_the_order_leaves_the_whole_in_the_config(tmp_path, trained):
    config = config_of(**{name: stage_of(striped(tmp_path / name, 4)) for name in ("one", "two")})
    stages.run(config, tmp_path / "w", Stop(), ["one"])
    assert trained == ["one"] and json.loads((tmp_path / "w" / "config.json").read_text())["order"] == ["one", "two"]
