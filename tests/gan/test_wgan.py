"""A run on class folders as a user makes it: training, resuming, scores and pictures of classes, images by (seed, class, index) alone."""

import csv
import json
import pathlib

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import main
from configs import cwgan_cytology, cwgan_gp_cytology
from gan import wgan
from microscopy.normalisation import ValueMap
from microscopy.preparation import Prepared
from microscopy.scan import Scan
from training import checkpoints, loop
from training.errors import ConfigError, RunError
from training.signals import Stop
from training.task import Data

ROOT = pathlib.Path(__file__).resolve().parents[2]
COLOURS = {"blue": (40, 60, 200), "green": (60, 190, 50), "red": (210, 50, 60)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three classes of five noisy RGB pictures of their own colour."""
    root = tmp_path_factory.mktemp("cells")
    for seed, (name, colour) in enumerate(COLOURS.items()):
        (root / name).mkdir()
        for index in range(5):
            noise = np.random.default_rng([seed, index]).normal(0, 20, (24, 26, 3))
            cv2.imwrite(str(root / name / f"{name}{index}.png"), np.clip(noise + colour, 0, 255).astype(np.uint8)[..., ::-1])
    return root


CHANGES = {
    "data": {"held_out": 0.3, "test": 0.0},
    "train": {"batch_size": 4, "critic_updates": 1, "num_steps": 4, "preview_every": 4, "save_every": 2, "eval_every": 4, "augment": ()},
    "eval": {"num_images": 12},
}


def tiny(folders):
    config = cwgan_gp_cytology.get_config("tiny").unlock()
    config.data.source = f"folder:{folders}"
    for section, fields in CHANGES.items():
        config[section].update(fields)
    return config.lock()


@pytest.fixture(scope="module")
def trained(folders, tmp_path_factory):
    """(workdir, status) of a run of four steps by the command line."""
    workdir = tmp_path_factory.mktemp("trained")
    words = [f"--config.{section}.{name}={value}" for section, fields in CHANGES.items() for name, value in fields.items()]
    config = f"--config={ROOT / 'configs' / 'cwgan_gp_cytology.py'}:tiny"
    assert main.run(["main.py", config, f"--config.data.source=folder:{folders}", *words, f"--workdir={workdir}"]) == 0
    return workdir, json.loads((workdir / "status.json").read_text())


def generate(workdir, output, *words):
    code = main.run(["main.py", "--mode=generate", f"--workdir={workdir}", f"--output={output}", *words])
    return code, {str(path.relative_to(output)): path.read_bytes() for path in sorted(output.rglob("*.png"))}


def test_a_stopped_run_ends_in_the_same_bits(folders, trained, tmp_path, monkeypatch):
    stop, original = Stop(), loop.logbook.Logbook.tick

    def tick(self, step):
        original(self, step)
        stop.signal = 15 if step == 3 else stop.signal

    with monkeypatch.context() as patch:
        patch.setattr(loop.logbook.Logbook, "tick", tick)
        assert loop.train(tiny(folders), tmp_path, stop)["step"] == 3
    status = loop.train(tiny(folders), tmp_path, Stop())
    assert status["state"] == "finished" and status["parameters_sha256"] == trained[1]["parameters_sha256"]


def test_a_run_leaves_the_classes_scores_and_a_row_of_pictures_a_class(trained):
    workdir, _ = trained
    assert json.loads((workdir / "classes.json").read_text()) == {"classes": list(COLOURS)}
    found = json.loads((workdir / "evaluation.json").read_text())
    assert {"critic/value_train", "critic/value_held_out", "critic/value_generated", "surface/card"} <= set(found["scalars"])
    assert all(np.isfinite(value) for value in found["scalars"].values())
    (rows,) = [rows for name, rows in found["tables"].items() if name.startswith("Classes (generated and held-out")]
    assert [row["class"] for row in rows] == list(COLOURS) and sum(row["n"] for row in rows) == 12
    for name in ("samples/step_00000004", "evaluation/generated_a_row_a_class", "evaluation/training_a_row_a_class"):
        assert cv2.imread(str(workdir / f"{name}.png")).shape == (3 * 18 - 2, 8 * 18 - 2, 3)
    for label, (_, colour) in enumerate(COLOURS.items()):  # the real rows show the classes in their order
        row = cv2.imread(str(workdir / "evaluation/training_a_row_a_class.png"))[18 * label : 18 * label + 16, :16, ::-1]
        assert np.argmax(row.mean((0, 1))) == np.argmax(colour)


def test_images_of_a_class_are_the_same_bytes_whatever_is_asked_for(trained, tmp_path, capsys):
    workdir, _ = trained
    code, whole = generate(workdir, tmp_path / "whole", "--labels=all", "--num_images=66")
    assert code == 0 and len(whole) == 198 == len(set(whole.values()))
    code, part = generate(workdir, tmp_path / "part", "--labels=red:66,blue:2", "--num_images=7")
    assert code == 0 and len(part) == 68 and part.items() <= whole.items()
    with open(tmp_path / "whole" / "index.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == list(whole) and {row["checkpoint"] for row in rows} == {"4"}
    code, other = generate(workdir, tmp_path / "seed", "--labels=blue:2", "--seed=1")
    assert code == 0 and len(other) == 2 and not set(other.values()) & set(whole.values())
    code, _ = generate(workdir, tmp_path / "wrong", "--labels=gren:3")
    assert code == 2 and "'gren' is no class of the run. Did you mean green?" in capsys.readouterr().err


def test_settled_statistics_are_those_of_all_classes_without_dropout():
    """The first norm layer's input is a function of the dense layer alone: its moments by NumPy, by running the layers before it."""
    config = cwgan_cytology.get_config("tiny").unlock()
    config.train.update({"batch_size": 8, "critic_updates": 2})
    task, (generator, _) = wgan.task_of(config, 3), wgan.make_networks(config, 3)
    state = task.init(jax.random.key(0), None)
    stats = task.settle(state).generator.stats["BatchNorm_0"]
    noise = jax.random.normal(jax.random.key(0), (16, 4, 8)).reshape(64, 8)
    label = jnp.arange(64) % 3
    variables = {"params": state.generator.params, "batch_stats": state.generator.stats}
    given = {"train": False, "capture_intermediates": True, "mutable": ["intermediates"]}
    _, seen = jax.jit(lambda *arguments: generator.apply(*arguments, **given))(variables, noise, label)
    values = np.asarray(seen["intermediates"]["Upsample_0"]["__call__"][0]).reshape(64 * 4, -1)
    np.testing.assert_allclose(stats["mean"], values.mean(0), atol=1e-6)
    np.testing.assert_allclose(stats["var"], values.var(0), rtol=1e-3)


def scan(name, label):
    return Scan(name, np.zeros((20, 20, 3), np.uint8), name, label=label)


@pytest.mark.parametrize(
    ("train", "held_out", "match"),
    [
        ([None, None], [], "config.data.source=cells: its scans have no classes.*\n.*folder:PATH with one sub-folder a class"),
        (["a", "b", None], [], "scan2: has no class"),
        (["a", "a"], ["b"], "the class b has no training scan"),
        (["c1", "C1"], [], "the classes 'C1' and 'c1' would have one folder of generated images"),
    ],
)
def test_scans_that_cannot_be_learned_are_told(train, held_out, match):
    splits = {"train": [scan(f"scan{i}", label) for i, label in enumerate(train)], "held_out": [scan("held", one) for one in held_out]}
    names = tuple(sorted({label for label in [*train, *held_out] if label}))
    with pytest.raises((ConfigError, RunError), match=match) as error:
        wgan.check_classes("cells", Prepared(splits, ValueMap(0.0, 255.0, "grey", (0.0, 0.0)), (16, 16), [], {}, names))
    assert len(str(error.value).splitlines()) <= 5


def test_scans_of_other_classes_do_not_judge(folders):
    task = wgan.task_of(tiny(folders), 2)
    batch = {"image": jnp.zeros((4, 16, 16, 3)), "label": jnp.array([0, -1, 1, 0]), "valid": jnp.ones(4, bool)}
    prepared = Prepared({"held_out": [scan("a", None)]}, ValueMap(0.0, 255.0, "grey", (0.0, 0.0)), (16, 16), [], {}, ("a", "b"))
    data = Data({}, None, None, lambda split: iter([batch]), prepared)
    with pytest.raises(RunError, match="not all of the run's classes, a, b"):
        task.evaluate(None, {}, data, jax.random.key(0))


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("data.height", 40, "config.data.height=40: the WGAN makes images of multiples of 16 px; 32 is the nearest"),
        ("model.conditioning", "film", "config.model.conditioning='film': choose concat or projection"),
        ("model.critic_norm", "batch", "critic_norm='batch': choose none or layer. A batch's statistics tie"),
        ("train.objective", "hinge", "config.train.objective='hinge': choose clip or gp"),
        ("train.objective", "clip", "config.model.critic_norm='layer': clipping"),
        ("train.critic_updates", 3, "batch_size=16 is shared by config.train.critic_updates=3: give a multiple, such as 15"),
        ("train.critic_updates", 16, "such as 32, which is 2 images an update"),
        ("train.augment", ("blur",), "config.train.augment: 'blur'"),
    ],
)
def test_a_field_that_cannot_be_is_named(field, value, match):
    config = cwgan_gp_cytology.get_config("tiny").unlock()
    section, name = field.split(".")
    config[section][name] = value
    with pytest.raises(ConfigError, match=match):
        wgan.make_task(config)


def test_a_checkpoint_has_the_runs_number_of_classes_and_another_run_begins_with_its_average(trained, folders):
    task = wgan.task_of(tiny(folders), 3)
    state, step = checkpoints.restore_for_inference(trained[0], task, "last")
    assert step == 4 and state.critic.params["class"]["embedding"].shape[0] == 3 and state.average
    begun = task.init(jax.random.key(1), checkpoints.restore_arrays(trained[0], "4"))
    jax.tree.map(np.testing.assert_array_equal, (begun.generator.params, begun.critic.params), (state.average, state.critic.params))
    assert int(begun.step) == 0
