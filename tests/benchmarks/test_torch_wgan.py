"""The PyTorch class-conditional WGAN that `--peer` times is ours: parameters, images, values, losses, penalty and gradients."""

import functools
import json

import jax
import numpy as np
import pytest

from benchmarks import throughput, timing
from configs import cwgan_cytology, cwgan_gp_cytology
from gan import losses, wgan
from training.errors import ConfigError

torch = pytest.importorskip("torch", reason="PyTorch is what benchmarks compare with; install it to run these")

from benchmarks import torch_dcgan, torch_steps, torch_wgan, torch_wgan_steps  # noqa: E402 - they import torch

# ml_collections reads config files by a method that Python has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

CASES = {"clip": cwgan_cytology, "gp": cwgan_gp_cytology}
NUM_CLASSES = 3
PLAIN = torch_steps.Setting("cpu")
torch.set_num_threads(1)


def same(there, here, **tolerance):
    """Holds a tensor of the twin against ours: within 1e-4, and not by being nothing."""
    assert np.std(here) > 1e-3
    np.testing.assert_allclose(there.detach().numpy(), np.asarray(here), **{"rtol": 0, "atol": 1e-4, **tolerance})


@functools.cache
def setup(case):
    """Config without dropout and augmentation, task, a state of random numbers and a batch; drawn with NumPy, to compile nothing."""
    config = CASES[case].get_config("tiny").unlock()
    config.model.update({"dropout": 0.0, "generator_dropout": 0.0, "dtype": "float32", "base_filters": 4})
    config.train.update({"shift": 0.0, "zoom": 0.0, "turn": 0.0})  # each side draws its own
    config.train.update({"augment": (), "ema_decay": 0.9, "l2": 1e-2, "clip": 0.15, "generator_rate": 1e-3, "critic_rate": 1e-3})
    task, draw = wgan.task_of(config.lock(), NUM_CLASSES), np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: task.init(key, None), jax.random.key(0))

    def fill(leaf):  # initial scales are all 1, biases 0 and kernels tiny: a slip would hide behind that
        spread = 0.1 if len(leaf.shape) > 1 else 0.3
        return np.asarray(draw.normal(size=leaf.shape) * spread + (len(leaf.shape) == 1), leaf.dtype)

    def zero(leaf):
        return np.zeros(leaf.shape, leaf.dtype)

    generator, critic = (
        net.replace(
            params=jax.tree.map(fill, net.params),
            stats=jax.tree.map(lambda leaf: np.abs(fill(leaf)), net.stats),
            opt_state=jax.tree.map(zero, net.opt_state),
        )
        for net in (shapes.generator, shapes.critic)
    )
    average = jax.tree.map(np.copy, generator.params)
    image = np.float32(draw.uniform(-1.0, 1.0, (config.train.batch_size, 16, 16, 3)))
    batch = {"image": image, "label": np.int32(draw.integers(0, NUM_CLASSES, len(image)))}
    return config, task, shapes.replace(step=np.int32(0), generator=generator, critic=critic, average=average), batch


def test_networks_have_as_many_parameters_and_all_dropout():
    for module in CASES.values():
        config = module.get_config("")
        task = wgan.task_of(config, NUM_CLASSES)
        state = jax.eval_shape(lambda key, task=task: task.init(key, None), jax.random.key(0))
        with torch.device("meta"):
            nets = torch_wgan.Generator(config, NUM_CLASSES), torch_wgan.Critic(config, NUM_CLASSES)
        for net, ours in zip(nets, (state.generator, state.critic), strict=True):
            assert sum(p.numel() for p in net.parameters()) == sum(leaf.size for leaf in jax.tree.leaves(ours.params))
        rates = [[layer.p for layer in net.modules() if isinstance(layer, torch.nn.Dropout)] for net in nets]
        assert rates == ([[0.1] * 6, [0.3] * 6] if module is cwgan_cytology else [[], []])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("channels_last", [False, True])
def test_images_and_values_agree(case, channels_last):
    config, _, state, batch = setup(case)
    noise = np.float32(np.random.default_rng(2).normal(size=(len(batch["label"]), config.model.latent_dim)))
    images, values, trained = forward(case)(state, noise, batch["image"], batch["label"])
    generator, critic = torch_wgan.networks(config, NUM_CLASSES, torch_steps.Setting("cpu", channels_last=channels_last), state)
    label = torch.from_numpy(batch["label"]).long()
    same(critic(torch_dcgan.from_flax(batch["image"]), label), values)
    for training, wanted in ((False, images), (True, trained)):  # in this order: a pass in training moves the statistics
        found = generator.train(training)(torch.from_numpy(noise), label)
        same(found, np.asarray(wanted)[:, ::-1, ::-1].transpose(0, 3, 1, 2))
    assert np.abs(images - trained).max() > 0.01


@functools.cache
def forward(case):
    generator, critic = wgan.make_networks(setup(case)[0], NUM_CLASSES)

    @jax.jit
    def apply(state, noise, image, label):
        variables = {"params": state.generator.params, "batch_stats": state.generator.stats}
        trained, _ = generator.apply(variables, noise, label, train=True, mutable=["batch_stats"])
        value = critic.apply({"params": state.critic.params}, image, label, train=False)
        return generator.apply(variables, noise, label, train=False), value, trained

    return apply


def draws_of(key, config):
    """Returns the noises (updates + 1, b, z) and mixes (updates, b) that gan.wasserstein draws from a step's key."""
    updates = config.train.critic_updates
    size = config.train.batch_size // updates
    key, *keys = jax.random.split(key, updates + 1)
    pairs = [jax.random.split(one) for one in keys]
    makers = [pair[0] for pair in pairs] + [jax.random.split(key, 3)[0]]
    noises = [jax.random.normal(jax.random.split(one)[0], (size, config.model.latent_dim)) for one in makers]
    mixes = [jax.random.uniform(jax.random.split(pair[1], 6)[2], (size,)) for pair in pairs]
    return (torch.from_numpy(np.array(np.stack(one))) for one in (noises, mixes))


@pytest.mark.parametrize("case", CASES)
def test_steps_have_the_same_losses_penalty_gradients_and_parameters(case):
    config, task, state, batch = setup(case)
    twins = []
    for setting in (PLAIN, torch_steps.Setting("cpu", channels_last=True)):
        nets = torch_wgan.networks(config, NUM_CLASSES, setting, state)
        average = [parameter.detach().clone() for parameter in nets[0].parameters()]
        step = torch_wgan_steps.make_step(config, setting, nets, average)
        twins.append((nets, average, step, torch_wgan_steps.shares(config, batch, setting)))
    ours = jax.jit(task.train_step)
    for number in range(2):  # the second from what the first has left in the optimisers
        key = jax.random.key(number)
        state, here = ours(state, {}, batch, key)
        noises, mixes = draws_of(key, config)
        for _, _, step, parts in twins:
            there = step(parts, noises, mixes)
            assert there.keys() == here.keys() and ("critic/penalty" in here) == (case == "gp")
            for name in here:
                assert abs(float(here[name])) > 1e-4, name
                np.testing.assert_allclose(float(there[name]), float(here[name]), rtol=1e-3, atol=1e-5, err_msg=name)
    averaged = state.replace(generator=state.generator.replace(params=state.average))
    wanted = [*torch_wgan.networks(config, NUM_CLASSES, PLAIN, state), torch_wgan.networks(config, NUM_CLASSES, PLAIN, averaged)[0]]
    wanted = [parameter for net in wanted for parameter in net.parameters()]
    for nets, average, _, _ in twins:
        have = [*nets[0].parameters(), *nets[1].parameters(), *average]
        apart = [float((p - q).detach().abs().mean()) for p, q in zip(have, wanted, strict=True)]
        assert np.mean(apart) < 2e-5  # a step of Adam is 1e-3: where a gradient is nearly 0 its sign is chance
        bound = max(float(parameter.detach().abs().max()) for parameter in nets[1].parameters())
        assert (bound <= config.train.clip + 1e-6) == (case == "clip")


def test_the_penalty_is_ours_and_differentiable():
    config, _, state, batch = setup("gp")
    _, critic = torch_wgan.networks(config, NUM_CLASSES, PLAIN, state)
    _, module = wgan.make_networks(config, NUM_CLASSES)
    random = np.random.default_rng(3)
    other, mix = np.float32(random.uniform(-1, 1, batch["image"].shape)), np.float32(random.uniform(size=len(batch["label"])))

    def penalty(params, image, other, mix, label):
        return losses.gradient_penalty(lambda one: module.apply({"params": params}, one, label, train=False), image, other, mix)

    wanted, gradient = jax.jit(jax.value_and_grad(penalty))(state.critic.params, batch["image"], other, mix, batch["label"])
    label = torch.from_numpy(batch["label"]).long()
    images = (torch_dcgan.from_flax(image) for image in (batch["image"], other))
    found = torch_wgan_steps.gradient_penalty(lambda one: critic(one, label), *images, torch.from_numpy(mix))
    np.testing.assert_allclose(float(found.detach()), float(wanted), rtol=1e-4)
    parameters = list(critic.layers.parameters())
    expected = torch_wgan.networks(config, NUM_CLASSES, PLAIN, state.replace(critic=state.critic.replace(params=jax.device_get(gradient))))[
        1
    ]
    for one, other in zip(torch.autograd.grad(found, parameters, allow_unused=True), expected.layers.parameters(), strict=True):
        one = torch.zeros_like(other) if one is None else one
        scale = float(other.detach().abs().max())
        np.testing.assert_allclose(one, other.detach(), rtol=0, atol=1e-3 * scale + 1e-6)


@pytest.mark.parametrize("size", [(48, 48), (16, 32), (256, 256)])
def test_sizes_that_begin_with_other_grids_are_refused(size):
    config = cwgan_cytology.get_config("tiny")
    config.data.height, config.data.width = size
    with pytest.raises(ConfigError, match=f"squares of 16, 32, 64 or 128 px, not {size[0]} x {size[1]}"):
        torch_wgan.check(config)


def test_an_even_kernel_is_refused():
    config = cwgan_cytology.get_config("tiny")
    torch_wgan.check(config)
    config.model.kernel_size = 4
    with pytest.raises(ConfigError, match="kernel_size"):
        torch_wgan.check(config)


@pytest.mark.parametrize(("name", "what"), [("cwgan_cytology", "train"), ("cwgan_gp_cytology", "train"), ("cwgan_cytology", "generate")])
def test_the_command_times_both(name, what, tmp_path, monkeypatch, capsys):
    """With dropout, augmentation and all; a compiled PyTorch network would take minutes of a C++ compiler and is tried by hand."""
    monkeypatch.setattr(timing, "num_cores", lambda: 1)
    monkeypatch.setattr("torch.compile", _refuse)
    path = tmp_path / "figures.json"
    words = [f"--config=configs/{name}.py:tiny", f"--what={what}", "--steps=2", "--peer", f"--json={path}"]
    assert throughput.main(["throughput", *words]) == 0
    figures, printed = json.loads(path.read_text()), capsys.readouterr().out
    assert figures["ratios"].keys() == {"PyTorch eager float32", "PyTorch eager float32, channels last"}
    assert printed.count("peer/ours") == 2
    if what == "train":
        notes = figures["notes"]  # of the penalty's pass nothing is said where no compiled network is timed
        assert len(notes) == 2 and all("no compiler)" in note and note in printed for note in notes)


def _refuse(net):
    def forward(*arrays):
        raise RuntimeError("no compiler\nand more words")

    return forward
