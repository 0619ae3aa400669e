"""The super-resolution task: losses by hand, both phases, several input sizes, imported weights, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import resize
from configs import srgan as settings
from configs import srgan_stm
from metrics.image import ssim
from microscopy.scan import DataError
from superres import srgan, vgg
from training.errors import ConfigError


def config(base=settings, **changes):
    c = base.get_config("tiny").copy_and_resolve_references().unlock()
    c.data.channels = changes.pop("channels", 1)
    for name, value in changes.items():
        section = next(section for section in ("model", "train", "data") if name in c[section])
        c[section][name] = value
    return c


def batch(c, seed=0):
    shape = (c.train.batch_size, c.data.height, c.data.width, c.data.channels)
    rough = jax.random.uniform(jax.random.key(seed), shape, minval=-1, maxval=1)
    return {"image": resize.bicubic(resize.area(rough, 8, 8), *shape[1:3])}


def vgg_arrays(layers, seed=0):
    random = np.random.default_rng(seed)
    return {name: (0.1 * random.normal(size=shape)).astype(np.float32) for name, shape in vgg.needed(layers).items()}


def test_the_losses_are_those_of_the_enlarged_images():
    c = config(phase="adversarial", norm="none", trunk_norm=False, pixel_weight=0.5, content_weight=0.25, adversarial_weight=0.125)
    frozen, high = vgg_arrays(("relu1_2",)), batch(c)
    c.train.content_layers = ("relu1_2",)
    task = srgan.make_task(c)
    state = task.init(jax.random.key(0), None)
    _, scalars = jax.jit(task.train_step)(state, frozen, high, jax.random.key(1))
    image = srgan.make_upscale(c)(*srgan.inference(state), resize.bicubic(high["image"], 8, 8))
    pixels = np.mean((np.asarray(image) - np.asarray(high["image"])) ** 2)
    _, discriminator = srgan.make_networks(c)

    @jax.jit
    def judged(one):
        logits, _ = discriminator.apply({"params": state.discriminator.params}, one, mutable=["batch_stats"])
        return vgg.features(frozen, one, ("relu1_2",))["relu1_2"], logits

    found, logits = zip(*(judged(one) for one in (image, high["image"])), strict=True)
    content = np.mean((np.asarray(found[0]) - np.asarray(found[1])) ** 2)
    fooled, real = (np.mean(np.log1p(np.exp(-np.asarray(logit)))) for logit in logits)
    caught = np.mean(np.log1p(np.exp(np.asarray(logits[0]))))
    assert scalars["generator/pixels"] == pytest.approx(pixels, rel=1e-4)
    assert scalars["generator/content"] == pytest.approx(content, rel=1e-3)
    assert scalars["generator/adversarial"] == pytest.approx(fooled, rel=1e-4)
    assert scalars["generator/loss"] == pytest.approx(0.5 * pixels + 0.25 * content + 0.125 * fooled, rel=1e-3)
    assert scalars["discriminator/loss"] == pytest.approx(real + caught, rel=1e-4)


@pytest.mark.parametrize("phase", srgan.PHASES)
def test_the_gradients_are_those_of_the_total_loss(phase):
    """One step of plain descent against a gradient of the loss written down in one piece."""
    c = config(phase=phase, norm="none", trunk_norm=False, discriminator_norm="none", adversarial_weight=0.5)
    generator, discriminator = srgan.make_networks(c)
    high = batch(c)["image"]
    state = srgan.make_task(c).init(jax.random.key(0), None)

    def total(params, judging, high):
        image = generator.apply({"params": params, "batch_stats": {}}, resize.bicubic(high, 8, 8), train=True)
        loss = jnp.mean((image - high) ** 2)
        if phase == "adversarial":
            loss += 0.5 * jnp.mean(jax.nn.softplus(-discriminator.apply({"params": judging}, image)))
        return loss

    def judged(params, making, high):
        image = generator.apply({"params": making, "batch_stats": {}}, resize.bicubic(high, 8, 8), train=True)
        real, made = (discriminator.apply({"params": params}, one) for one in (high, image))
        return jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(made))

    descent = optax.sgd(1.0)
    state = state.replace(generator=state.generator.replace(opt_state=descent.init(state.generator.params)))
    state = state.replace(discriminator=state.discriminator.replace(opt_state=descent.init(state.discriminator.params)))
    step = srgan.make_train_step(c, generator, discriminator, [descent, descent])
    after, _ = jax.jit(step)(state, {}, {"image": high}, jax.random.key(1))
    first, second = state.generator.params, state.discriminator.params
    pairs = [(after.generator.params, first, jax.jit(jax.grad(total))(first, second, high))]
    if phase == "adversarial":
        pairs.append((after.discriminator.params, second, jax.jit(jax.grad(judged))(second, first, high)))
    for new, old, expected in pairs:
        jax.tree.map(lambda a, b, g: np.testing.assert_allclose(b - a, g, atol=1e-5, rtol=1e-3), new, old, expected)


def test_each_input_size_has_its_share_of_the_batch_and_ends_at_the_crops_size():
    c = config(srgan_stm, norm="none", trunk_norm=False)
    assert srgan.low_sizes(c) == [(8, 8), (12, 12)]
    task, high = srgan.make_task(c), batch(c)["image"]
    state = task.init(jax.random.key(0), None)
    _, scalars = jax.jit(task.train_step)(state, {}, {"image": high}, jax.random.key(1))
    upscale, errors = srgan.make_upscale(c), []
    for part, size in ((high[:2], 8), (high[2:], 12)):
        image = upscale(*srgan.inference(state), resize.area(part, size, size))
        assert image.shape == (2, 4 * size, 4 * size, 1)
        errors.append((resize.bicubic(image, 32, 32) - part) ** 2)
    assert scalars["generator/pixels"] == pytest.approx(float(np.mean(errors)), rel=1e-4)


def test_training_on_pixels_lowers_the_error_and_batch_statistics_move_unless_frozen():
    c = config(generator_rate=1e-3)
    task = srgan.make_task(c)
    step, state, errors = jax.jit(task.train_step), task.init(jax.random.key(0), None), []
    first = state.generator.stats
    for _ in range(60):
        state, scalars = step(state, {}, batch(c), jax.random.key(1))
        errors.append(float(scalars["generator/pixels"]))
    assert errors[-1] < 0.5 * errors[0]
    assert not np.array_equal(*(jax.tree.leaves(stats)[0] for stats in (first, state.generator.stats)))
    frozen = srgan.make_task(config(freeze_norm=True))
    after, _ = jax.jit(frozen.train_step)(frozen.init(jax.random.key(0), None), {}, batch(c), jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, after.generator.stats, first)


def test_the_second_phase_begins_with_the_first_ones_average():
    from training import checkpoints

    state = srgan.make_task(config(ema_decay=0.5)).init(jax.random.key(3), None)
    state = state.replace(average=jax.tree.map(lambda leaf: leaf + 1, state.average))
    imported = {name: np.asarray(leaf) for name, leaf in checkpoints.leaf_names(state).items()}
    begun = srgan.make_task(config(phase="adversarial")).init(jax.random.key(0), imported)
    jax.tree.map(np.testing.assert_array_equal, begun.generator.params, state.average)
    assert jax.tree.leaves(begun.discriminator.params) and begun.average == {}


def test_the_least_crop_is_the_least_that_ssim_can_score():
    image = np.zeros((srgan.LEAST_SIZE, srgan.LEAST_SIZE), np.uint8)
    assert ssim(image, image) == 1.0
    with pytest.raises(DataError, match="SSIM needs"):
        ssim(image[1:], image[1:])
    assert srgan.make_task(config(height=20, width=20)).frozen == {}


@pytest.mark.parametrize("name", srgan.LIMITS)
def test_every_number_is_refused_where_it_is_none(name):
    section, field = name.split(".")
    c = config()
    c[section] = {**c[section], field: float("nan")}
    with pytest.raises(ConfigError, match=f"config.{name}=nan: "):
        srgan.make_task(c)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"phase": "both"}, "config.train.phase='both'"),
        ({"scale": 3}, "config.model.scale=3: choose 2, 4, 8"),
        ({"first_kernel": 4}, "first_kernel=4: an odd number"),
        ({"reduction": "nearest"}, "config.model.reduction='nearest'"),
        ({"low_sizes": (8, 64)}, "config.model.low_sizes: 64"),
        ({"low_sizes": (8, 12, 16)}, "config.train.batch_size=4: a multiple of the 3 low_sizes"),
        ({"pixel_weight": 0.0}, "config.train.pixel_weight=0"),
        ({"content_layers": ("relu9_9",), "vgg": "x.npz"}, "config.train.content_layers"),
        ({"num_maps": 0}, "config.model.num_maps=0"),
        ({"loss": "wasserstein"}, "config.train.loss"),
        ({"vgg_padding": "reflct"}, "config.train.vgg_padding='reflct': choose zero or reflect"),
        ({"momentum": 1.0}, "config.model.momentum=1.0: 0.0 to 0.9999"),
        ({"momentum": float("nan")}, "config.model.momentum=nan"),
        ({"pad_value": float("-inf")}, "config.model.pad_value=-inf: -1.0 to 1.0"),
        ({"pad_value": float("nan")}, "config.model.pad_value=nan"),
        ({"leak": 1.5}, "config.model.leak=1.5: 0.0 to 1.0"),
        ({"leak": -0.1}, "config.model.leak=-0.1"),
        ({"height": 18, "scale": 2}, "config.data.height=18: 19 or more"),
        ({"width": 16}, "config.data.width=16: 19 or more"),
    ],
)
def test_fields_that_cannot_be_are_named(changes, match):
    with pytest.raises(ConfigError, match=match):
        srgan.make_task(config(**changes))
