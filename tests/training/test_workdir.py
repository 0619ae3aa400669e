"""What a workdir says of its run, what may change in it, and how damage to it is told."""

import json

import jax
import ml_collections
import pytest

from configs import dcgan32
from microscopy.normalisation import ValueMap
from training import workdir
from training.errors import ConfigError, RunError
from training.task import Evaluation

MAP = ValueMap(-1.25, 6.5, "nm", (0.001, 0.002), (2.0, 2.5))


def begun(path, config=None):
    """A workdir with a checkpoint's folder, from which a run would go on."""
    workdir.describe(path, config or dcgan32.get_config("tiny"), MAP)
    (path / "checkpoints" / "4").mkdir(parents=True)
    return path


def changed(**fields):
    config = dcgan32.get_config("tiny").unlock()
    for name, value in fields.items():
        section, _, field = name.partition("__")
        if field:
            config[section][field] = value
        else:
            config[section] = value
    return config


def test_a_config_comes_back_as_it_was_tuples_and_all(tmp_path):
    config = changed(data__margins=(0, 8, 64, 0), train__augment=("translation", "cutout"), data__source="folder:scans")
    workdir.describe(tmp_path, config, MAP)
    read = workdir.read_config(tmp_path)
    assert read.to_dict() == config.to_dict() and isinstance(read.data.margins, tuple) and isinstance(read.train, ml_collections.ConfigDict)
    assert read.train.generator_rate == 2e-4 and read.is_locked
    with pytest.raises(AttributeError, match="batchsize"):
        read.train.batchsize = 3
    assert workdir.read_value_map(tmp_path) == MAP
    assert workdir.plain(config)["data"]["margins"] == [0, 8, 64, 0]
    assert workdir.flat({"a": 1, "b": {"c": [2], "d": {"e": None}}}) == {"a": 1, "b.c": [2], "b.d.e": None}


def test_every_start_is_recorded(tmp_path):
    for _ in range(2):
        workdir.describe(tmp_path, dcgan32.get_config("tiny"), MAP)
    first, second = json.loads((tmp_path / "environment.json").read_text())["starts"]
    assert first.keys() == second.keys() and first["packages"]["jax"] == jax.__version__
    assert "absent" not in first["packages"].values() and "2 x cpu" in first["devices"]
    assert workdir._version("no-such-package") == "absent"


def test_the_commit_is_unknown_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert workdir.commit() == "unknown"


def test_run_length_logging_and_scoring_may_change(tmp_path):
    begun(tmp_path)
    workdir.refuse_drift(tmp_path, dcgan32.get_config("tiny"))
    for name in ("num_steps", "log_every", "preview_every", "save_every", "eval_every", "steps_per_call"):
        workdir.refuse_drift(tmp_path, changed(**{f"train__{name}": 1234}))
    workdir.refuse_drift(tmp_path, changed(eval__num_images=99))
    workdir.refuse_drift(tmp_path, changed(eval={"num_images": 16, "another": 1}))


def test_a_run_from_before_a_field_had_its_default(tmp_path):
    old = dcgan32.get_config("tiny").unlock()
    del old.data["label_field"], old.data["label_reach"], old.data["label_weight"]
    begun(tmp_path, old)
    workdir.refuse_drift(tmp_path, changed(train__schedule="constant"))
    workdir.refuse_drift(tmp_path, changed(data__label_reach=12.0))  # of no field
    with pytest.raises(ConfigError, match="config.data.label_field: none there, distance now"):
        workdir.refuse_drift(tmp_path, changed(data__label_field="distance"))


def test_the_length_of_a_run_with_a_schedule_may_not_change(tmp_path):
    begun(tmp_path, changed(train__schedule="cosine"))
    workdir.refuse_drift(tmp_path, changed(train__schedule="cosine", train__log_every=4))
    with pytest.raises(ConfigError, match="config.train.num_steps: 8 there, 1234 now"):
        workdir.refuse_drift(tmp_path, changed(train__schedule="cosine", train__num_steps=1234))


@pytest.mark.parametrize(
    ("fields", "lines"),
    [
        ({"seed": 1}, ["1 field differs:", "  config.seed: 0 there, 1 now"]),
        ({"data__margins": (0, 0, 8, 0)}, ["1 field differs:", "  config.data.margins: [0, 0, 0, 0] there, [0, 0, 8, 0] now"]),
        (
            {"train__loss": "hinge", "seed": 3},
            ["2 fields differ:", "  config.seed: 0 there, 3 now", "  config.train.loss: cross_entropy there, hinge now"],
        ),
        ({"train__new": 1}, ["1 field differs:", "  config.train.new: absent there, 1 now"]),
        (
            {"seed": 1, "task": "gan.wgan", "model__leak": 0.2, "model__dropout": 0.0, "train__beta1": 0.1},
            ["5 fields differ (and 3 more):", "  config.model.dropout: 0.3 there, 0.0 now", "  config.model.leak: 0.01 there, 0.2 now"],
        ),
    ],
)
def test_drift_is_told_field_by_field_in_five_lines(tmp_path, fields, lines):
    begun(tmp_path)
    with pytest.raises(ConfigError) as error:
        workdir.refuse_drift(tmp_path, changed(**fields))
    told = str(error.value).splitlines()
    assert told[0] == f"{tmp_path} was begun with another config; {lines[0]}"
    assert told[1:-1] == lines[1:] and len(told) <= 5
    assert told[-1] == "Give the old values to go on, or another --workdir to begin anew."


def test_a_start_that_never_saved_binds_nobody(tmp_path):
    workdir.describe(tmp_path, dcgan32.get_config("tiny"), MAP)
    workdir.refuse_drift(tmp_path, changed(seed=1))
    workdir.refuse_drift(tmp_path / "new", changed(seed=1))


def test_a_stage_says_what_its_run_made_by_its_way_from_the_run(tmp_path, monkeypatch):
    """However the run's folder is spelled, wherever it is moved; what lies elsewhere is told as it was given."""
    monkeypatch.chdir(tmp_path)
    run, elsewhere = tmp_path / "w", str(tmp_path / "else")

    def of(place, masks=elsewhere):
        config = changed(data__source=f"folder:{place}/images/real", data__masks=masks, init_from=f"{place}/other@best")
        return config

    (run / "one").mkdir(parents=True)
    (run / "config.json").write_text('{"stages": {}}')
    begun(run / "one", of("w"))
    told = json.loads((run / "one" / "config.json").read_text())
    assert (told["data"]["source"], told["data"]["masks"]) == ("folder:{run}/images/real", elsewhere)
    assert told["init_from"] == "{run}/other@best"
    (tmp_path / "link").symlink_to(run)
    for place in ("w", run, "./w", "w/../w", "link", tmp_path / "link"):
        workdir.refuse_drift(f"{place}/one", of(place))
        assert workdir.read_config(f"{place}/one").data.source.endswith(("/w/images/real", "/link/images/real"))
    with pytest.raises(ConfigError, match=r"data.source: folder:\{run\}/images/real there, folder:\{run\}/images/other now"):
        workdir.refuse_drift(run / "one", changed(data__source="folder:w/images/other", data__masks=elsewhere, init_from="w/other@best"))
    (run / "one" / "config.json").write_text(json.dumps(workdir.plain(of(run))))  # as earlier versions did
    workdir.refuse_drift("w/one", of("w"))
    workdir.describe(run / "one", of("w"), MAP)
    run.rename(moved := tmp_path / "moved")
    workdir.refuse_drift(moved / "one", of(moved))
    assert workdir.read_config(moved / "one").to_dict() == of(moved).to_dict()
    monkeypatch.chdir(moved / "one")
    assert workdir.read_config(".").init_from == f"{moved}/other@best"


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "{}", '"text"', b"\xff\xfe\x00"])
def test_a_damaged_config_is_a_short_error_that_names_it(tmp_path, content):
    begun(tmp_path)
    path = tmp_path / "config.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RunError) as error:
        workdir.read_config(tmp_path)
    lines = str(error.value).splitlines()
    assert lines[0].startswith(f"{path} cannot be read: ") and len(lines) == 2 and "backup" in lines[1]
    with pytest.raises((RunError, ConfigError)):
        workdir.refuse_drift(tmp_path, dcgan32.get_config("tiny"))


def test_a_config_from_before_a_field_had_its_default(tmp_path):
    begun(tmp_path)
    config = dcgan32.get_config("tiny")
    fields = workdir.plain(config)
    for name in ("labels", "levels", "classes", "pad", "canvas", "names"):
        del fields["data"][name]
    (tmp_path / "config.json").write_text(json.dumps(fields))
    workdir.refuse_drift(tmp_path, config)
    workdir.refuse_drift(tmp_path, workdir.read_config(tmp_path))
    with pytest.raises(ConfigError, match="config.data.canvas: 0 there, 64 now"):
        workdir.refuse_drift(tmp_path, changed(data__canvas=64))


@pytest.mark.parametrize("content", ["{", "[]", '{"low": 1.0}', '{"low": 1.0, "high": 2.0, "unit": "nm", "clipped": [0, 0], "more": 1}'])
def test_a_damaged_value_map_is_a_short_error_that_names_it(tmp_path, content):
    begun(tmp_path)
    (tmp_path / "normalisation.json").write_text(content)
    with pytest.raises(RunError, match="normalisation.json cannot be read") as error:
        workdir.read_value_map(tmp_path)
    assert len(str(error.value).splitlines()) == 2


def test_a_folder_that_is_no_workdir_is_told_so(tmp_path):
    for read in (workdir.read_config, workdir.read_value_map):
        with pytest.raises(RunError, match="not the workdir of a run"):
            read(tmp_path)


def test_an_evaluation_is_written_with_its_step(tmp_path):
    evaluation = Evaluation({"surface/height": jax.numpy.float32(0.5), "n": 3}, {"pairs": [{"a": 1}]}, protocol="3 of 4")
    workdir.write_evaluation(tmp_path, 12, evaluation)
    written = {"step": 12, "protocol": "3 of 4", "scalars": {"surface/height": 0.5, "n": 3.0}, "tables": {"pairs": [{"a": 1}]}}
    assert json.loads((tmp_path / "evaluation.json").read_text()) == written


def test_a_runs_classes_come_back_and_others_are_refused(tmp_path):
    workdir.describe(tmp_path, dcgan32.get_config("tiny"), MAP, ("oak", "pine"))
    workdir.refuse_other_classes(tmp_path, ("oak",))  # nothing was saved yet
    (tmp_path / "checkpoints" / "4").mkdir(parents=True)
    assert workdir.read_classes(tmp_path) == ("oak", "pine")
    workdir.refuse_other_classes(tmp_path, ("oak", "pine"))
    with pytest.raises(ConfigError, match="classes oak, pine; the scans now have oak, yew"):
        workdir.refuse_other_classes(tmp_path, ("oak", "yew"))
    (tmp_path / "classes.json").write_text('{"classes": 3}')
    with pytest.raises(RunError, match="lists no classes"):
        workdir.read_classes(tmp_path)
    with pytest.raises(RunError, match="classes.json: not found"):
        workdir.read_classes(tmp_path / "elsewhere")
