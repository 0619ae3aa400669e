"""The PyTorch networks and steps that `--peer` times are ours: same outputs, logits, gradients and losses from the same parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import dcgan
from gan import diffaugment, losses
from gan.dcgan import make_networks
from training import loop
from training.errors import ConfigError

torch = pytest.importorskip("torch", reason="PyTorch is what benchmarks compare with; install it to run these")

from benchmarks import torch_dcgan, torch_steps  # noqa: E402 - they import torch

CASES = [("cross_entropy", 5, 1), ("hinge", 4, 3)]  # loss, kernel size, channels
NETS = ("generator", "discriminator")
PLAIN = torch_steps.Setting("cpu")
torch.set_num_threads(1)


def small(loss="cross_entropy", kernel_size=5, channels=1):
    config = dcgan.get_config("tiny").unlock()
    config.data.update({"height": 32, "width": 48, "channels": channels})
    config.model.update({"base_filters": 8, "kernel_size": kernel_size, "dropout": 0.0, "dtype": "float32"})
    config.train.update({"loss": loss, "label_smoothing": 0.1, "ema_decay": 0.9})
    return config.lock()


@functools.cache
def setup(*case):
    """Config, task, a state of random numbers and a batch; drawn with NumPy, since every jax function costs a compilation."""
    config, draw = small(*case), np.random.default_rng(0)
    task = loop.method(config).make_task(config)
    shapes = jax.eval_shape(lambda key: task.init(key, None), jax.random.key(0))

    def fill(leaf):  # initial scales are all 1, biases 0 and kernels tiny: a slip would hide behind that
        spread = 0.05 if len(leaf.shape) > 1 else 0.3
        return np.asarray(draw.normal(size=leaf.shape) * spread + (len(leaf.shape) == 1), leaf.dtype)

    def zero(leaf):
        return np.zeros(leaf.shape, leaf.dtype)

    nets = {name: getattr(shapes, name) for name in NETS}
    nets = {name: net.replace(params=jax.tree.map(fill, net.params)) for name, net in nets.items()}
    nets = {name: net.replace(opt_state=jax.tree.map(zero, net.opt_state)) for name, net in nets.items()}
    nets["generator"] = nets["generator"].replace(stats=jax.tree.map(lambda leaf: np.abs(fill(leaf)), nets["generator"].stats))
    average = jax.tree.map(np.copy, nets["generator"].params)
    shape = (config.train.batch_size, config.data.height, config.data.width, config.data.channels)
    real = np.float32(draw.uniform(-1.0, 1.0, shape))
    return config, task, shapes.replace(step=np.int32(0), average=average, **nets), real


def noise_of(key, config):
    return np.array(jax.random.normal(jax.random.split(key, 5)[0], (config.train.batch_size, config.model.latent_dim)))


@pytest.mark.parametrize("case", CASES)
def test_generated_images_and_logits_agree(case):
    config, _, state, real = setup(*case)
    noise = np.float32(np.random.default_rng(2).normal(size=(8, config.model.latent_dim)))
    generator, discriminator = make_networks(config)

    @jax.jit
    def apply(state, noise, real):
        variables = {"params": state.generator.params, "batch_stats": state.generator.stats}
        trained, _ = generator.apply(variables, noise, train=True, mutable=["batch_stats"])
        logits, _ = discriminator.apply({"params": state.discriminator.params}, real, train=False, mutable=["batch_stats"])
        return generator.apply(variables, noise, train=False), trained, logits

    here = [np.asarray(values) for values in apply(state, noise, real)]
    net, judge = torch_steps.networks(config, PLAIN, state)
    with torch.no_grad():
        there = [torch_dcgan.to_flax(net.train(training)(torch.from_numpy(noise))) for training in (True, False)]
    net, _ = torch_steps.networks(config, PLAIN, state)  # a pass in training has moved the statistics
    with torch.no_grad():
        there = [torch_dcgan.to_flax(net.eval()(torch.from_numpy(noise))), there[0], judge(torch_dcgan.from_flax(real)).numpy()]
    for ours, theirs in zip(here, there, strict=True):
        assert np.std(ours) > 0.01
        np.testing.assert_allclose(theirs, ours, atol=1e-4)
    assert np.abs(here[0] - here[1]).max() > 0.01


@functools.cache
def jitted_step(case):
    return jax.jit(setup(*case)[1].train_step)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("channels_last", [False, True])
def test_one_step_has_the_same_losses_and_gradients(case, channels_last):
    config, task, state, real = setup(*case)
    key = jax.random.key(3)
    after, here = jitted_step(case)(state, {}, {"image": real}, key)
    nets = torch_steps.networks(config, torch_steps.Setting("cpu", channels_last=channels_last), state)
    step = torch_steps.make_step(config, PLAIN, nets, torch_steps.simultaneous, [])
    there = step(torch_dcgan.from_flax(real), torch.from_numpy(noise_of(key, config)))
    assert there.keys() == here.keys()
    for name in here:
        np.testing.assert_allclose(float(there[name]), float(here[name]), rtol=1e-4, err_msg=name)
    # Adam's first moment after one step from zero is (1 - beta1) times the gradient.
    gradients = [jax.tree.map(lambda m: m / (1.0 - config.train.beta1), getattr(after, name).opt_state[0].mu) for name in NETS]
    wanted = state.replace(generator=state.generator.replace(params=gradients[0], stats={}))
    wanted = wanted.replace(discriminator=state.discriminator.replace(params=gradients[1]))
    for net, expected in zip(nets, torch_steps.networks(config, PLAIN, wanted), strict=True):
        for (name, parameter), value in zip(net.named_parameters(), expected.parameters(), strict=True):
            scale = float(value.detach().abs().max())
            assert scale > 5e-4, name
            np.testing.assert_allclose(parameter.grad, value.detach(), rtol=0, atol=min(1e-4, 1e-3 * scale), err_msg=name)


def test_ten_steps_take_the_same_course_and_average():
    config, _, state, real = setup(*CASES[0])
    nets = torch_steps.networks(config, PLAIN, state)
    average = [parameter.detach().clone() for parameter in nets[0].parameters()]
    step = torch_steps.make_step(config, PLAIN, nets, torch_steps.simultaneous, average)
    before, course = state, []
    for number in range(10):
        key = jax.random.key(number)
        state, here = jitted_step(CASES[0])(state, {}, {"image": real}, key)
        there = step(torch_dcgan.from_flax(real), torch.from_numpy(noise_of(key, config)))
        course.append(float(here["discriminator/loss"]))
        np.testing.assert_allclose([float(there[name]) for name in here], [float(here[name]) for name in here], rtol=1e-2)
    assert abs(course[0] - course[-1]) > 0.1
    averaged = state.replace(generator=state.generator.replace(params=state.average))
    moved = np.mean([np.abs(np.asarray(a) - b).mean() for a, b in zip(*map(jax.tree.leaves, (state.average, before.average)), strict=True)])
    wanted = list(torch_steps.networks(config, PLAIN, averaged)[0].parameters())
    apart = np.mean([float((a - b).detach().abs().mean()) for a, b in zip(average, wanted, strict=True)])
    assert apart < 0.02 * moved


def test_the_usual_order_updates_both_networks_from_two_passes():
    config, _, state, real = setup(*CASES[0])
    both = [torch_steps.networks(config, PLAIN, state) for _ in range(2)]
    noise = torch.randn(real.shape[0], config.model.latent_dim)
    orders = (torch_steps.simultaneous, torch_steps.sequential)
    steps = [torch_steps.make_step(config, PLAIN, nets, order, []) for nets, order in zip(both, orders, strict=True)]
    results = [step(torch_dcgan.from_flax(real), noise) for step in steps]
    # The discriminator's update is the same; the generator's is taken from a discriminator that has moved on.
    for name in ("discriminator/loss", "discriminator/gradient", "discriminator/probability_real"):
        np.testing.assert_allclose(float(results[0][name]), float(results[1][name]), rtol=1e-5)
    assert abs(float(results[1]["generator/loss"]) / float(results[0]["generator/loss"]) - 1.0) > 1e-3
    for one, other in zip(both[0][1].parameters(), both[1][1].parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_bfloat16_by_autocast_stays_near():
    config, _, state, real = setup(*CASES[0])
    values = []
    for setting in (PLAIN, torch_steps.Setting("cpu", bfloat16=True)):
        nets = torch_steps.networks(config, setting, state)
        torch.manual_seed(0)
        step = torch_steps.make_step(config, setting, nets, torch_steps.simultaneous, [])
        values.append(step(torch_dcgan.from_flax(real), torch.randn(real.shape[0], config.model.latent_dim))["discriminator/loss"])
    assert values[0] != values[1]
    torch.testing.assert_close(*values, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", sorted(losses.LOSSES))
def test_losses_agree(name):
    real, generated = np.random.default_rng(7).normal(size=(2, 9)).astype(np.float32)
    batches = torch.from_numpy(real), torch.from_numpy(generated)
    for extra, here, there in zip(((0.1,), ()), losses.LOSSES[name], torch_steps.LOSSES[name], strict=True):
        np.testing.assert_allclose(there(*batches, *extra), here(real, generated, *extra), rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_augmentation_does_the_same_with_the_same_numbers(channels):
    key, shape = jax.random.key(5), (4, 32, 48, channels)
    image = jax.random.normal(jax.random.key(6), shape)
    there = torch.from_numpy(np.array(image).transpose(0, 3, 1, 2))

    def check(result, expected):
        np.testing.assert_allclose(result.numpy().transpose(0, 2, 3, 1), expected, atol=1e-5)

    draws = [torch.from_numpy(np.array(jax.random.uniform(k, (4, 1, 1, 1)))) for k in jax.random.split(key, 3)]
    check(torch_steps.colour(there, *draws), diffaugment.colour(key, image))
    start = jax.random.randint(key, (4, 2), 0, jnp.array([[9, 13]]))
    check(torch_steps.translation(there, torch.from_numpy(np.array(start)).long(), (4, 6)), diffaugment.translation(key, image))
    y_key, x_key = jax.random.split(key)
    top = jax.random.randint(y_key, (4, 1, 1, 1), 0, 33) - 8
    left = jax.random.randint(x_key, (4, 1, 1, 1), 0, 49) - 12
    corner = torch.from_numpy(np.concatenate([np.array(top), np.array(left)], 1).reshape(4, 2))
    check(torch_steps.cutout(there, corner, (16, 24)), diffaugment.cutout(key, image))


def test_augmentation_draws_in_range_and_is_differentiable():
    torch.manual_seed(0)
    image = torch.ones(512, 1, 32, 48, requires_grad=True)
    moved = torch_steps.augment(image.detach(), ("translation",)).sum((1, 2, 3))
    assert float(moved.max()) <= 32 * 48 and float(moved.min()) == 28 * 42
    hidden = 1.0 - torch_steps.augment(image.detach(), ("cutout",)).mean((1, 2, 3))
    assert 0.0 < float(hidden.min()) < 0.08 and float(hidden.max()) == 0.25
    (gradient,) = torch.autograd.grad(torch_steps.augment(image, ("colour", "translation", "cutout")).sum(), image)
    assert gradient.shape == image.shape and float(gradient.abs().max()) > 0
    assert torch_steps.augment(image, ()) is image


def test_options_without_a_peer_are_refused():
    config = small().unlock()
    config.model.discriminator_norm = "spectral"
    with pytest.raises(ConfigError, match="discriminator_norm=batch, not spectral"):
        torch_dcgan.check(config)
