"""Stages train in turn, go on where they stopped, and a changed one names what it makes stale."""

import json
import shutil

import ml_collections
import pytest

from configs import dcgan32, srgan_div2k
from microscopy.scan import DataError
from studies import stages
from training import checkpoints, loop
from training.errors import ConfigError, RunError
from training.signals import Stop


def config(**first):
    c = ml_collections.ConfigDict({"name": "two", "task": "studies.stages", "order": ("one", "two"), "stages": {}})
    for name in c.order:
        stage = dcgan32.get_config("tiny").copy_and_resolve_references().unlock()
        stage.train.update({"num_steps": 4, "eval_every": 2})
        stage.eval.num_images = 4
        c.stages[name] = stage
    c.stages.one.train.update(first)
    c.stages.two.init_from = "stage:one"
    return c.lock()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("stages")
    stages.run(config(), workdir, Stop())
    return workdir


@pytest.fixture
def workdir(trained, tmp_path):
    """The same place as the trained one, so that the stages find each other; put back afterwards."""
    shutil.copytree(trained, tmp_path / "kept")
    yield trained
    shutil.rmtree(trained)
    shutil.copytree(tmp_path / "kept", trained)


def state(workdir, name):
    return json.loads((workdir / name / "status.json").read_text())


def test_the_second_begins_from_the_best_of_the_first_and_finished_stages_stay(workdir):
    assert [state(workdir, name)["state"] for name in ("one", "two")] == ["finished"] * 2
    (upstream,) = json.loads((workdir / "two" / "lineage.json").read_text())["upstream"]
    best = checkpoints.best(workdir / "one")
    assert upstream["sha256"] == checkpoints.verify(workdir / "one", best)["sha256"] and upstream["step"] == best
    before = {path: path.read_bytes() for path in workdir.rglob("checkpoints/*/manifest.json")}
    assert {path.parent.name for path in workdir.glob("*/inputs.json")} == {"one", "two"}
    stages.run(config(), workdir, Stop())
    assert before == {path: path.read_bytes() for path in workdir.rglob("checkpoints/*/manifest.json")}
    assert set(json.loads((workdir / "config.json").read_text())["stages"]) == {"one", "two"}


def test_a_finished_stage_is_scored_again_only_where_its_config_has_changed(workdir, capsys, monkeypatch):
    kept = (workdir / "one" / "evaluation.json").stat().st_mtime_ns
    stages.run(config(), workdir, Stop())
    assert capsys.readouterr().out.splitlines() == ["Stage one: finished at step 4.", "Stage two: finished at step 4."]
    assert (workdir / "one" / "evaluation.json").stat().st_mtime_ns == kept
    seen = []
    monkeypatch.setattr(loop, "train", lambda stage, folder, stop, warned: seen.append(folder.name))
    other = config()
    with other.unlocked():
        other.stages.two.eval.num_images = 8
    stages.run(other, workdir, Stop())
    assert seen == ["two"]
    (workdir / "two" / "status.json").write_text((workdir / "two" / "status.json").read_text().replace("finished", "interrupted"))
    stages.run(config(), workdir, Stop())
    assert seen == ["two", "two"]


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("vgg", "/nope.npz", "stage adversarial: weights /nope.npz: No such file"),
        ("loss", "wasserstein", "stage adversarial: config.train.loss='wasserstein'"),
        ("log_every", 3, "stage adversarial: config.train.log_every=3"),
        ("batch_size", 5, "stage adversarial: config.train.batch_size=5 cannot be split"),
    ],
)
def test_what_is_wrong_with_a_later_stage_is_told_before_the_first_trains(field, value, match, tmp_path, monkeypatch):
    c = srgan_div2k.get_config("tiny").copy_and_resolve_references()
    with c.unlocked():
        c.stages.adversarial.train[field] = value
    monkeypatch.setattr(loop, "train", lambda *_: pytest.fail("trained"))
    with pytest.raises((ConfigError, DataError), match=match):
        stages.run(c, tmp_path / "w", Stop())
    assert not (tmp_path / "w").exists()


def test_a_changed_stage_names_itself_and_those_behind_it(workdir):
    with pytest.raises(
        ConfigError, match=r"(?s)stage one has changed, so stale are: one, two.*config.stages.one.train.generator_rate: 0.0002"
    ):
        stages.run(config(generator_rate=1e-3), workdir, Stop())
    shutil.rmtree(workdir / "one")
    with pytest.raises(RunError, match="stage two was begun from other weights"):
        stages.run(config(generator_rate=1e-3), workdir, Stop())


def test_other_weights_below_make_the_stage_above_stale(workdir):
    shutil.rmtree(workdir / "one")
    with pytest.raises(RunError, match="stage two was begun from other weights"):
        stages.run(config(generator_rate=1e-3), workdir, Stop())
    shutil.rmtree(workdir / "two")
    stages.run(config(generator_rate=1e-3), workdir, Stop())
    assert state(workdir, "two")["state"] == "finished"


def test_a_stopped_run_goes_on_with_the_stage_it_was_in(tmp_path):
    stop = Stop()
    stop.signal = 15
    stages.run(config(), tmp_path, stop)
    assert not (tmp_path / "one").exists() and not (tmp_path / "two").exists()
    stages.run(config(), tmp_path, Stop())
    assert state(tmp_path, "two")["state"] == "finished"
