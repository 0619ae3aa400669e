"""Every config keeps the contract of training/task.py: shapes, dtypes, purity, fixed words, settled states."""

import dataclasses
import importlib
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from database import choices
from microscopy import fields
from microscopy.normalisation import ValueMap
from microscopy.preparation import Prepared
from training import loop
from training.errors import ConfigError
from training.task import Data, Net

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem != "__init__")
PREPARED = Prepared({}, ValueMap(0.0, 255.0, "grey", (0.0, 0.0)), (64, 64), [], {})


def get_config(name, preset):
    return importlib.import_module(f"configs.{name}").get_config(preset)


def fake_batch(config):
    planes = fields.num_planes(config.data)
    shape = (config.train.batch_size, *([planes] if planes else []), config.data.height, config.data.width, config.data.channels)
    batch = {"image": jax.random.uniform(jax.random.key(0), shape, minval=-1, maxval=1)}
    batch["label"] = jnp.arange(config.train.batch_size, dtype=jnp.int32) % 2
    return batch | ({"mask": (batch["image"][..., 0] > 0.5).astype(jnp.int32)} if config.data.use_masks else {})


@pytest.mark.parametrize("preset", ["", "cpu", "tiny"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_keeps_tree_shapes_and_dtypes_and_counts(name, preset):
    whole = get_config(name, preset)
    assert whole.is_locked and whole.name == f"configs/{name}.py"
    if whole.task == "database.build":
        choices.fit_sizes(whole)
    stages = [stage for stage in whole.stages.values() if "train" in stage] if "stages" in whole else [whole]
    for config in stages[:: max(1, len(stages) - 1)]:  # the first and the last: those between differ by a fold or a quality
        check_step(config)


def check_step(config):
    task = loop.method(config).make_task(config)
    loop.check_periods(config.train)
    key = jax.random.key(0)
    state = jax.eval_shape(lambda k: task.init(k, None), key)
    batch = jax.eval_shape(lambda: fake_batch(config))
    after, scalars = jax.eval_shape(task.train_step, state, task.frozen, batch, key)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), after) == jax.tree.map(lambda a: (a.shape, a.dtype), state)
    assert state.step.shape == () and state.step.dtype == jnp.int32
    assert all(value.shape == () and value.dtype == jnp.float32 for value in scalars.values())
    assert all("/" in name for name in scalars)
    nets = [getattr(state, field.name) for field in dataclasses.fields(state)]
    params = jax.tree.leaves([net.params for net in nets if isinstance(net, Net)])
    assert params and all(leaf.dtype == jnp.float32 for leaf in params)


@pytest.mark.parametrize("name", ["dcgan32"])
def test_the_methods_functions_are_pure_and_settling_never_changes_training(name):
    config = get_config(name, "tiny")
    task = loop.method(config).make_task(config)
    step, key, batch = jax.jit(task.train_step), jax.random.key(1), fake_batch(config)
    state = task.init(jax.random.key(0), None)
    once, scalars = step(state, task.frozen, batch, key)
    again, _ = step(state, task.frozen, batch, key)
    jax.tree.map(np.testing.assert_array_equal, once, again)
    assert int(once.step) == 1 and all(np.isfinite(value) for value in scalars.values())
    settled = task.settle(once)
    assert not np.array_equal(*(jax.tree.leaves(s.generator.stats)[0] for s in (once, settled)))
    plain, _ = step(once, task.frozen, batch, key)
    through, _ = step(settled, task.frozen, batch, key)
    jax.tree.map(
        np.testing.assert_array_equal, (plain.generator.params, plain.discriminator), (through.generator.params, through.discriminator)
    )
    pictures = task.preview(settled, task.frozen, {}, key)
    assert pictures.dtype == np.uint8 and pictures.ndim == 4
    np.testing.assert_array_equal(pictures, task.preview(settled, task.frozen, {}, key))


@pytest.mark.parametrize("name", ["dcgan32"])
def test_evaluation_is_named_finite_and_repeatable(name):
    config = get_config(name, "tiny")
    task = loop.method(config).make_task(config)
    state = task.settle(task.init(jax.random.key(0), None))

    def batches(split):
        for index in range(2):
            batch = fake_batch(config) | {"valid": jnp.arange(8) + 8 * index < 14}
            yield batch | {"image": jnp.clip(batch["image"] + 0.1 * index + (split == "train"), -1, 1)}

    data = Data({}, lambda arrays, key: fake_batch(config), lambda arrays, step: arrays, batches, PREPARED)
    first, again = (task.evaluate(state, task.frozen, data, jax.random.key(3)) for _ in range(2))
    assert dict(first.scalars) == dict(again.scalars)
    assert all(np.isfinite(value) for value in first.scalars.values())
    assert {"diversity/ratio", "discriminator/accuracy_train", "discriminator/accuracy_held_out"} <= set(first.scalars)


def test_unknown_presets_tasks_and_periods_are_refused():
    with pytest.raises(ValueError, match="choose"):
        get_config("dcgan32", "huge")
    config = get_config("dcgan32", "tiny").unlock()
    config.task = "gan.unknown"
    with pytest.raises(ConfigError, match="gan.unknown"):
        loop.method(config)
    config.train.log_every = 3
    with pytest.raises(ConfigError, match="log_every=3 is no positive multiple of config.train.steps_per_call=2"):
        loop.check_periods(config.train)


def test_the_loop_names_no_room():
    source = (ROOT / "training" / "loop.py").read_text()
    for room in ("gan", "superres", "segmentation", "classification"):
        assert f"import {room}" not in source and f"from {room}" not in source


@pytest.mark.parametrize(
    ("section", "field", "value", "match"),
    [
        ("data", "height", 40, "height=40"),
        ("model", "discriminator_norm", "layer", "discriminator_norm"),
        ("model", "kernel_size", 2, "kernel_size=2"),
        ("model", "dtype", "float16", "dtype"),
        ("train", "loss", "wasserstein", "loss"),
        ("train", "augment", ("blur",), "augment"),
        ("train", "ema_decay", 1.0, "ema_decay"),
    ],
)
def test_fields_that_cannot_be_are_named(section, field, value, match):
    config = get_config("dcgan32", "tiny").unlock()
    config[section][field] = value
    with pytest.raises(ConfigError, match=match):
        loop.method(config).make_task(config)
