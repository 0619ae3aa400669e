"""Networks of stacks: slice by slice they are the U-Net of images, tiles equal the whole, whole stacks are judged by voxels."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import unet3d_emulsion
from microscopy.normalisation import ValueMap
from microscopy.preparation import Prepared
from microscopy.scan import Scan
from segmentation import judged, supervised, whole
from training.errors import ConfigError

RANDOM = np.random.default_rng(0)


def config(**model):
    c = unet3d_emulsion.get_config("tiny").unlock()
    c.data.update({"height": 16, "width": 16, "crop": 16, "planes": 4})
    c.model.update({"base_width": 4, "depth": 1, **model})
    c.train.update({"ema_decay": 0.0})
    return c


def applied(c):
    """Returns (network, probability(images), (params, stats)), random in every number."""
    network, random = supervised.make_network(c), np.random.default_rng(1)
    like = jax.eval_shape(lambda: network.init(jax.random.key(0), images(), False))
    params = jax.tree.map(lambda leaf: random.normal(0, 0.4, leaf.shape).astype(np.float32), like["params"])
    stats = jax.tree.map(lambda leaf: random.uniform(0.5, 2, leaf.shape).astype(np.float32), like.get("batch_stats", {}))
    return network, functools.partial(supervised.make_probability(c), params, stats), (params, stats)


def images(planes=4, side=16, num=2):
    return jnp.asarray(RANDOM.uniform(-1, 1, (num, planes, side, side, 1)).astype(np.float32))


def test_slice_by_slice_is_the_network_of_images_and_3d_is_not():
    network, probability, (params, stats) = applied(config(kernel_depth=1))
    assert network.kernel == (1, 3, 3) and network.pool == (1, 2, 2)
    flat = config()
    flat.data.planes = 0
    assert supervised.make_network(flat).kernel == (3, 3)
    whole, given = images(), jax.tree.map(lambda x: x.reshape(x.shape[1:]) if x.ndim == 5 else x, params)
    found, of_images = probability(whole), supervised.make_probability(flat)
    assert found.shape == (2, 4, 16, 16) and found.dtype == jnp.float32 and float(found.std()) > 0.005
    for plane in range(4):
        np.testing.assert_allclose(found[:, plane], of_images(given, stats, whole[:, plane]), atol=1e-6)
    changed = whole.at[:, 2].set(-whole[:, 2])
    others = jnp.array([0, 1, 3])
    assert np.array_equal(probability(changed)[:, others], found[:, others]) and not np.array_equal(probability(changed)[:, 2], found[:, 2])
    network, probability, _ = applied(config())
    assert network.kernel == (3, 3, 3)
    assert np.abs(probability(changed)[:, others] - probability(whole)[:, others]).max() > 1e-3


@pytest.mark.parametrize(("norm", "pool_depth"), [("batch", 2), ("group", 1)])
def test_tiles_of_stacks_equal_the_whole(norm, pool_depth, monkeypatch):
    network, probability, _ = applied(config(norm=norm, pool_depth=pool_depth))
    stack = RANDOM.uniform(-1, 1, (75, 170, 3)).astype(np.float32)
    wide = np.pad(stack, [(0, 128 - 75), (0, 192 - 170), (0, 0)], mode="reflect")  # to multiples of whole.STEP
    wanted = np.moveaxis(np.asarray(probability(np.moveaxis(wide, -1, 0)[None, ..., None])[0]), 0, -1)[:75, :170]
    seen = []
    monkeypatch.setattr(whole, "BUDGET", 4 * whole.STACK_COPIES * 4 * 3 * 130**2)
    found = whole.make_whole(network, lambda tiles: (seen.append(tiles.shape), probability(tiles))[1])(stack)
    assert found.shape == (75, 170, 3)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert all(shape[2] * shape[3] <= 130**2 for shape in seen) and len(seen) > 1 or norm == "group"


def test_the_tile_of_least_work_keeps_to_the_budget():
    side = whole.stack_tile(8, 51, 32, (1024, 1280, 8))
    assert side % 32 == 0 and 4 * whole.STACK_COPIES * 8 * 8 * side**2 <= whole.BUDGET
    assert whole.stack_tile(8, 51, 32, (64, 64, 8)) >= 2 * 51 + 32
    assert whole.stack_tile(8, 51, 32, (4096, 4096, 256)) == 160  # two rungs, whatever the budget


def scan(name, seed=0):
    """Dark rods in a bright stack (h, w, d) of two levels."""
    mask = np.zeros((40, 60, 4), np.int32)
    row = 4 + 3 * seed
    mask[row : row + 3, 5:50, 1], mask[20:23, 8:40, 2:] = 1, 2
    return Scan(name, np.where(mask > 0, 40, 200).astype(np.uint8), name, mask=mask)


def prepared(**splits):
    return Prepared({"train": [], "held_out": [], "test": [], **splits}, ValueMap(0.0, 255.0, "grey", (0.0, 0.0)), (16, 16), [], {})


def test_whole_stacks_are_judged_by_all_their_voxels():
    c = config()
    c.eval.num_scans = 0
    network = supervised.make_network(c)
    dark = lambda stacks: (jnp.asarray(stacks)[..., 0] < 0).astype(jnp.float32)  # noqa: E731
    found = judged.evaluate(c, network, dark, prepared(held_out=[scan("a"), scan("b", 1)], train=[scan("c")]))
    assert "every voxel" in found.protocol and found.scalars["segmentation/iou"] == 1 and found.scalars["segmentation/percent"] == 100
    rows = {row["by"]: row for row in found.tables["2 held-out scans, means"]}
    assert list(rows) == ["3D network", "everything foreground", "Otsu's threshold"]
    assert rows["everything foreground"]["iou"] == pytest.approx(np.mean(scan("a").mask > 0)) and rows["Otsu's threshold"]["iou"] > 0.5
    assert found.figures["segmentation"].dtype == np.uint8 and found.figures["segmentation"].shape[1] == 3 * 360 + 2 * 4
    half = judged.evaluate(c, network, lambda stacks: dark(stacks).at[:, 2:].set(0.0), prepared(held_out=[scan("a")]))
    mask = scan("a").mask > 0
    assert half.scalars["segmentation/iou"] == pytest.approx(mask[..., :2].sum() / mask.sum())
    assert judged.name_of(supervised.make_network(config(kernel_depth=1))) == "network, slice by slice"


def test_a_step_learns_and_the_preview_shows_the_middle_plane():
    c = config(base_width=8)
    c.train.update({"rate": 1e-2, "augment": "light"})
    task = supervised.make_task(c)
    mask = jnp.asarray(RANDOM.integers(0, 2, (2, 4, 4, 4)).repeat(4, axis=2).repeat(4, axis=3), jnp.int32)
    batch = {"image": (1.0 - 2.0 * mask)[..., None] * 0.8, "mask": mask}
    state, step = task.init(jax.random.key(0), None), jax.jit(task.train_step)
    for number in range(30):
        state, scalars = step(state, {}, batch, jax.random.key(number))
    assert float(scalars["network/iou"]) > 0.8 and int(state.step) == 30
    pictures = task.preview(state, {}, batch, jax.random.key(0))
    assert pictures.shape == (2, 16, 48, 1) and np.array_equal(pictures[:, :, 32:, 0] > 127, np.asarray(mask[:, 2] > 0))


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("model.kernel_depth", 0, "config.model.kernel_depth=0: 1 to 15"),
        ("model.kernel_depth", 2, "config.model: kernel=.2, 3, 3.: odd"),
        ("model.pool_depth", 3, "config.model.pool_depth=3: 1 to 2"),
        ("eval.objects", True, "config.eval.objects=true: its scores are of images"),
        ("eval.partition", True, "config.eval.partition=true"),
    ],
)
def test_a_field_that_cannot_be_is_named(field, value, reason):
    c = config()
    section, name = field.split(".")
    c[section][name] = value
    with pytest.raises(ConfigError, match=reason):
        supervised.make_task(c)


def test_one_file_models_of_stacks_name_the_mode_that_applies_them(monkeypatch):
    from segmentation import exported

    monkeypatch.setattr(exported, "load", lambda path: (types.SimpleNamespace(stacks=True), {}))
    with pytest.raises(exported.RunError, match="of stacks; --mode=predict --weights=a.safetensors"):
        exported.load_predictor("a.safetensors")
