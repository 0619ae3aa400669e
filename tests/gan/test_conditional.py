"""The published layer tables by shapes alone; the class reaches every output; a network of one class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import cwgan_cytology, cwgan_gp_cytology
from gan import conditional, wgan
from gan.conditional import ClassGenerator, Critic


def kernels(params):
    """The shapes of all convolution kernels, in the order of the layers."""
    return [leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(params) if len(leaf.shape) == 4 and path[-1].key == "kernel"]


def test_the_published_networks_layer_by_layer():
    """PUBLISHED: six 5x5 convolutions, five of them strided, dense; from z = 64 dense and seven doublings to 128 x 128 colour."""
    generator, critic = wgan.make_networks(cwgan_cytology.get_config(), 4)
    assert (critic.leak, generator.leak, critic.sigmoid, critic.norm) == (0.2, 0.2, True, "none")
    assert critic.dropout > 0 and generator.dropout > 0
    noise, label, image = jnp.zeros((2, 64)), jnp.zeros((2,), jnp.int32), jnp.zeros((2, 128, 128, 3))
    key = jax.random.key(0)
    judged, made = (
        jax.eval_shape(lambda: critic.init(key, image, label, train=False)),
        jax.eval_shape(lambda: generator.init(key, noise, label, train=True)),
    )
    assert kernels(judged["params"]) == [
        (5, 5, a, b) for a, b in zip((7, 32, 64, 128, 256, 512), (32, 64, 128, 256, 512, 512), strict=True)
    ]
    assert judged["params"]["value"]["kernel"].shape == (4 * 4 * 512, 1)  # 128 halved five times
    assert kernels(made["params"]) == [
        (5, 5, a, b) for a, b in zip((512, 512, 512, 256, 128, 64, 32), (512, 512, 256, 128, 64, 32, 3), strict=True)
    ]
    assert made["params"]["Dense_0"]["kernel"].shape == (64 + 4, 512) and len(made["batch_stats"]) == 6
    images = jax.eval_shape(lambda: generator.init_with_output(key, noise, label, train=True)[0])
    values = jax.eval_shape(lambda: critic.init_with_output(key, image, label, train=False)[0])
    assert (images.shape, images.dtype, values.shape, values.dtype) == ((2, 128, 128, 3), jnp.float32, (2,), jnp.float32)


def test_strides_are_five_and_doublings_seven(monkeypatch):
    """The sides that each layer gives, by watching the convolutions run on shapes."""
    seen = []
    for name in ("strided_convolution", "transposed_convolution", "convolution"):
        original = getattr(__import__("gan.networks", fromlist=["networks"]), name)

        def watched(x, kernel, original=original):
            y = original(x, kernel)
            seen.append(y.shape[1])
            return y

        monkeypatch.setattr(f"gan.networks.{name}", watched)
    generator, critic = wgan.make_networks(cwgan_cytology.get_config(), 4)
    label = jnp.zeros((2,), jnp.int32)
    jax.eval_shape(lambda: critic.init(jax.random.key(0), jnp.zeros((2, 128, 128, 3)), label, train=False))
    jax.eval_shape(lambda: generator.init(jax.random.key(0), jnp.zeros((2, 64)), label, train=True))
    assert seen == [64, 32, 16, 8, 4, 4, 2, 4, 8, 16, 32, 64, 128]


GRIDS = [
    ((16, 16), (1, 1), (4, 4)),
    ((128, 128), (1, 1), (4, 4)),
    ((96, 96), (3, 3), (3, 3)),
    ((48, 80), (3, 5), (3, 5)),
    ((256, 128), (2, 1), (4, 2)),
]


@pytest.mark.parametrize(("size", "first", "last"), GRIDS)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_any_size_and_channels(size, first, last, channels):
    config = cwgan_gp_cytology.get_config("tiny").unlock()
    config.data.update({"height": size[0], "width": size[1], "channels": channels})
    generator, critic = wgan.make_networks(config, 3)
    key, label = jax.random.key(0), jnp.zeros((2,), jnp.int32)
    image = jax.eval_shape(lambda: generator.init_with_output(key, jnp.zeros((2, 8)), label, train=True)[0])
    assert image.shape == (2, *size, channels)
    assert tuple(side >> conditional.num_doublings(*size) for side in size) == first
    assert tuple(side >> conditional.num_halvings(*size) for side in size) == last
    assert jax.eval_shape(lambda: critic.init_with_output(key, jnp.zeros(image.shape), label, train=False)[0]).shape == (2,)


@pytest.mark.parametrize("conditioning", ["concat", "projection"])
def test_the_class_changes_the_image_and_the_value(conditioning):
    generator = ClassGenerator(16, 16, 1, 2, 2, conditioning=conditioning)
    critic = Critic(2, 2, conditioning=conditioning, norm="layer")
    noise = jnp.tile(jax.random.normal(jax.random.key(0), (1, 4)), (2, 1))
    labels = jnp.array([0, 1])
    images, _ = jax.jit(lambda noise: generator.init_with_output(jax.random.key(1), noise, labels, train=True))(noise)
    assert np.abs(images[0] - images[1]).max() > 1e-3
    image = jnp.tile(jax.random.normal(jax.random.key(2), (1, 16, 16, 1)), (2, 1, 1, 1))
    values, variables = jax.jit(lambda image: critic.init_with_output(jax.random.key(3), image, labels, train=False))(image)
    assert abs(float(values[0] - values[1])) > 1e-4
    if conditioning == "projection":  # by exactly the inner product of the difference of the embeddings with the summed features
        given = {"train": False, "capture_intermediates": True, "mutable": ["intermediates"]}
        _, seen = jax.jit(lambda variables, image: critic.apply(variables, image, labels, **given))(variables, image)
        features = np.asarray(seen["intermediates"]["norm2"]["__call__"][0][0])
        features = np.where(features > 0, features, 0.2 * features).sum((0, 1))
        embedding = np.asarray(variables["params"]["class"]["embedding"])
        assert float(values[0] - values[1]) == pytest.approx(float((embedding[0] - embedding[1]) @ features), rel=1e-3)
