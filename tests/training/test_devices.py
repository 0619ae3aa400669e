"""Devices: one axis, a batch split over it, and one or two devices taking the same steps."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

import input_pipeline
from configs import dcgan32
from microscopy import normalisation, preparation
from microscopy.scan import Scan
from training import devices, loop
from training.errors import ConfigError
from training.task import Data


def meshes(batch_size=8):
    return [devices.make_mesh(batch_size, jax.devices()[:num]) for num in (1, 2)]


@pytest.fixture(scope="module")
def setup():
    """The tiny config's task and its data on three small scans, of the size tests/test_resume.py has: one compilation for both."""
    config = dcgan32.get_config("tiny")
    pixels = np.random.default_rng(0).normal(size=(3, 70, 64)).astype(np.float32)
    scans = [Scan(str(index), image, str(index)) for index, image in enumerate(pixels)]
    crop = preparation.crop_size(scans, config.data)
    prepared = preparation.Prepared({"train": scans, "held_out": [], "test": []}, normalisation.fit(scans), crop, [], {})
    return loop.method(config).make_task(config), input_pipeline.make_data(config, prepared), prepared


@pytest.mark.parametrize("batch_size", [0, -2, 1, 7, 63])
def test_a_batch_the_devices_do_not_divide_is_refused_with_both_numbers(batch_size):
    with pytest.raises(ConfigError, match=f"config.train.batch_size={batch_size} cannot be split over 2 devices") as error:
        devices.make_mesh(batch_size)
    assert len(str(error.value).splitlines()) <= 5 and "multiple of 2" in str(error.value)


def test_the_mesh_holds_all_devices_and_splits_batches_along_their_first_axis():
    mesh = devices.make_mesh(8)
    assert mesh.axis_names == ("data",) and list(mesh.devices) == jax.devices()
    whole = devices.replicate(mesh, {"a": jnp.arange(6.0), "b": np.ones((2, 3))})
    assert all(leaf.sharding.is_fully_replicated and len(leaf.sharding.device_set) == 2 for leaf in jax.tree.leaves(whole))
    batch = {"image": jnp.arange(48.0).reshape(8, 2, 3), "label": jnp.arange(8)}
    split = jax.jit(lambda tree: devices.split_batch(mesh, tree))(batch)
    for name, leaf in split.items():
        assert leaf.sharding.spec == PartitionSpec("data")
        assert [shard.data.shape[0] for shard in leaf.addressable_shards] == [4, 4]
        np.testing.assert_array_equal(leaf, batch[name])


def test_one_and_two_devices_draw_the_same_samples(setup):
    _, data, prepared = setup
    keys = loop.Keys(*jax.random.split(jax.random.key(3), 4))

    def sample(arrays, key):
        return input_pipeline.draw(key, arrays, 8, prepared.crop, "free", True)

    def train_step(state, frozen, batch, key):
        return state.replace(step=state.step + 1), {**batch, "key": jax.random.key_data(key)}

    state_type = loop.importlib.import_module("gan.dcgan").State
    task = types.SimpleNamespace(train_step=train_step)
    drawn = []
    for mesh in meshes():
        call = loop.make_call(task, Data(data.arrays, sample, None, None, None), mesh)
        state, found = devices.replicate(mesh, state_type(jnp.zeros((), jnp.int32), {}, {}, {})), []
        for num in (1, 2, 1):
            state, batch = call(state, devices.replicate(mesh, data.arrays), {}, keys, num)
            found.append(jax.device_get(batch))
        assert int(state.step) == 4
        drawn.append(found)
    jax.tree.map(np.testing.assert_array_equal, *drawn)
    scans = [batch["scan"] for batch in drawn[0]]
    assert set(np.concatenate(scans)) == {0, 1, 2} and not np.array_equal(scans[0], scans[1])


def test_one_and_two_devices_give_the_same_losses_and_networks(setup):
    task, data, _ = setup
    keys = loop.Keys(*jax.random.split(jax.random.key(0), 4))
    ends, losses = [], []
    for mesh in meshes():
        call = loop.make_call(task, data, mesh)
        state, found = devices.replicate(mesh, task.init(keys.init, None)), []
        arrays = devices.replicate(mesh, data.arrays)
        for _ in range(3):
            state, scalars = call(state, arrays, {}, keys, 1)
            found.append({name: float(value) for name, value in scalars.items()})
        assert len(jax.tree.leaves(state)[0].sharding.device_set) == mesh.size
        losses.append(found)
        ends.append(jax.device_get(state))
    for name, value in losses[0][0].items():
        assert losses[1][0][name] == pytest.approx(value, rel=1e-5), name
    for one, two in zip(*losses, strict=True):
        assert two["generator/loss"] == pytest.approx(one["generator/loss"], rel=1e-3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), *(end.discriminator.params for end in ends))


def test_the_devices_are_described_in_a_line():
    line = devices.describe()
    assert line.startswith("2 x cpu, ") and f"(jax {jax.__version__}, cpu)" in line and "cores" in line


def test_an_unseen_gpu_is_noticed_only_where_nobody_hid_it(monkeypatch):
    monkeypatch.setattr(devices.shutil, "which", lambda name: "nvidia-smi")
    for name in ("JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    assert devices.on_cpu() and devices.unseen_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not devices.unseen_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert devices.unseen_gpu()
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert not devices.unseen_gpu()
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setattr(devices, "on_cpu", lambda: False)
    assert not devices.unseen_gpu()
