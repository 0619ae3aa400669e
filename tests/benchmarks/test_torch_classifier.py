"""The PyTorch classifier that `--peer` times is ours: parameters, logits, augmentation, losses and the course of the parameters."""

import functools
import json

import jax
import numpy as np
import pytest

from benchmarks import throughput, timing
from classification import classifier
from configs import classifier as config_of_classifier
from training import affine

torch = pytest.importorskip("torch", reason="PyTorch is what benchmarks compare with; install it to run these")

from benchmarks import torch_affine, torch_classifier, torch_side, torch_steps  # noqa: E402 - they import torch

# ml_collections reads config files by a method that Python has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

COUNTED = np.float32([0.5, 1.0, 2.0])
PLAIN = torch_steps.Setting("cpu")
torch.set_num_threads(1)


@functools.cache
def setup(kind):
    """Config without dropout and augmentation, a state of random numbers and a batch; drawn with NumPy, to compile nothing."""
    config = config_of_classifier.get_config("tiny").unlock()
    config.model.update({"kind": kind, "dropout": 0.0, "dtype": "float32", "num_blocks": 3})
    config.train.update({"shift": 0.0, "zoom": 0.0, "turn": 0.0, "label_smoothing": 0.1, "weight_decay": 0.1})
    draw, network = np.random.default_rng(0), classifier.make_network(config.lock(), len(COUNTED))
    image = np.float32(draw.uniform(-1.0, 1.0, (8, 13, 13, 3)))  # odd: pooling drops a line
    shapes = jax.eval_shape(lambda key: network.init(key, image, False), jax.random.key(0))

    def fill(leaf):  # initial scales are all 1 and biases 0: a slip would hide behind that
        spread = 0.2 if len(leaf.shape) > 1 else 0.1
        return np.asarray(draw.normal(size=leaf.shape) * spread + (len(leaf.shape) == 1), leaf.dtype)

    params, stats = (jax.tree.map(fill, shapes[name]) for name in ("params", "batch_stats"))
    return config, network, params, stats, {"image": image, "label": np.int32(draw.integers(0, len(COUNTED), 8))}


def twin(config, params, stats, setting=PLAIN):
    return torch_classifier.network(config, setting, *jax.device_get((params, stats)))


@pytest.mark.parametrize("kind", ["compact", "residual"])
def test_parameters_and_logits_agree(kind):
    config, _, params, stats, batch = setup(kind)
    wanted = np.asarray(classifier.make_logits(config, len(COUNTED))(params, stats, batch["image"]))
    assert wanted.std() > 0.1
    for channels_last in (False, True):
        net = twin(config, params, stats, torch_steps.Setting("cpu", channels_last=channels_last))
        assert sum(parameter.numel() for parameter in net.parameters()) == sum(leaf.size for leaf in jax.tree.leaves(params))
        with torch.inference_mode():
            found = net.eval()(torch_side.from_flax(batch["image"], channels_last)).numpy()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)


def test_steps_have_the_same_losses_and_parameters():
    config, network, params, stats, batch = setup("residual")
    task = classifier._task(config, COUNTED, (0, 0))
    shapes = jax.eval_shape(lambda key: task.init(key, None), jax.random.key(0))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    net = zeros.network.replace(params=params, stats=stats)
    state = zeros.replace(network=net, average={"params": params, "stats": stats})
    there = twin(config, params, stats)
    average = [tensor.clone() for tensor in torch_classifier.averaged(there)]
    step = torch_classifier.make_step(config, PLAIN, there, torch.from_numpy(COUNTED), average)
    ours, image, label = jax.jit(task.train_step), torch_side.from_flax(batch["image"]), torch.from_numpy(batch["label"]).long()
    for number in range(2):  # the second from what the first has left in the optimiser
        state, here = ours(state, task.frozen, batch, jax.random.key(number))
        found = step(image, label)
        assert found.keys() == here.keys() and float(here["network/loss"]) > 0.1
        for name in here:
            np.testing.assert_allclose(float(found[name]), float(here[name]), rtol=1e-3, err_msg=name)
    for have, values in ((there.parameters(), state.network), (average, state.average)):
        params, stats = (values["params"], values["stats"]) if isinstance(values, dict) else (values.params, values.stats)
        wanted = list(twin(config, params, stats).parameters())
        apart = [float((p - q).detach().abs().mean()) for p, q in zip(have, wanted, strict=False)]
        assert np.mean(apart) < 2e-5  # a step of Adam is 1e-3: where a gradient is nearly 0 its sign is chance


def test_images_are_moved_alike():
    image = np.float32(np.random.default_rng(1).uniform(-1, 1, (5, 12, 17, 3)))
    matrix, offset = affine.draw(jax.random.key(3), 5, (12, 17), affine.Policy(0.2, 0.5, 60.0))
    wanted = np.asarray(affine.warp(image, matrix, offset))
    found = torch_affine.warp(torch_side.from_flax(image), *(torch.from_numpy(np.array(one)) for one in (matrix, offset)))
    assert np.abs(wanted - image).mean() > 0.1
    np.testing.assert_allclose(torch_side.to_flax(found), wanted, atol=1e-4)


def test_draws_keep_to_the_config():
    train, image = config_of_classifier.get_config("").train.copy_and_resolve_references(), torch.zeros(400, 1, 9, 9)
    image[:, :, 4, 4] = 1.0
    moved = torch_affine.augment(image, train)
    assert moved.shape == image.shape and float((moved - image).abs().amax((1, 2, 3)).min()) > 0
    rows = (moved.sum((1, 3)) * torch.arange(9)).sum(1) / moved.sum((1, 2, 3)).clamp(min=1e-6) - 4
    assert 0.5 < float(rows[moved.sum((1, 2, 3)) > 0.5].abs().max()) < 1.6  # a shift of 0.9 px, between pixels, zoomed by up to 1.16
    train.update({"shift": 0.0, "zoom": 0.0, "turn": 0.0})
    assert torch_affine.augment(image, train) is image


def test_the_command_times_both(tmp_path, monkeypatch, capsys):
    """With dropout and augmentation; a compiled PyTorch network would take minutes of a C++ compiler and is tried by hand."""

    def refuse(net):
        def forward(*arrays):
            raise RuntimeError("no compiler\nand more words")

        return forward

    monkeypatch.setattr(timing, "num_cores", lambda: 1)
    monkeypatch.setattr("torch.compile", refuse)
    path = tmp_path / "figures.json"
    assert throughput.main(["throughput", "--config=configs/classifier.py:tiny", "--steps=2", "--peer", f"--json={path}"]) == 0
    figures, printed = json.loads(path.read_text()), capsys.readouterr().out
    assert figures["ratios"].keys() == {"PyTorch eager float32", "PyTorch eager float32, channels last"}
    assert printed.count("peer/ours") == 2 and len(figures["notes"]) == 2 and all("no compiler)" in note for note in figures["notes"])
