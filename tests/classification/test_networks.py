"""The classifiers' shapes, parameters and statistics at any size; pooling against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from classification.networks import KINDS, Classifier, pooled


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(2, 64, 64, 3), (1, 33, 50, 1), (3, 5, 1, 4)])
def test_images_of_any_size_become_float32_logits(kind, shape):
    network = Classifier(num_classes=5, kind=kind, base_width=4, dropout=0.5, dtype=jnp.bfloat16)
    image, keys = jax.ShapeDtypeStruct(shape, jnp.float32), {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    out, made = jax.eval_shape(lambda image: network.init_with_output(keys, image, True), image)
    assert out.shape == (shape[0], 5) and out.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(made))
    other = jax.eval_shape(lambda image: network.init(keys, image, False), jax.ShapeDtypeStruct((1, 16, 16, shape[-1]), jnp.float32))
    assert jax.tree.map(jnp.shape, made["params"]) == jax.tree.map(jnp.shape, other["params"])


def test_a_compact_network_has_the_parameters_that_counting_gives():
    made = jax.eval_shape(lambda x: Classifier(3, base_width=4, num_blocks=2).init(jax.random.key(0), x, False), jnp.zeros((1, 8, 8, 2)))
    convolutions = 9 * (2 * 4 + 4 * 4 + 4 * 8 + 8 * 8)
    norms, dense = 2 * (4 + 4 + 8 + 8), 8 * 3 + 3
    assert sum(leaf.size for leaf in jax.tree.leaves(made["params"])) == convolutions + norms + dense


@pytest.mark.parametrize("shape", [(2, 6, 8, 3), (1, 5, 7, 2), (1, 1, 4, 1)])
def test_pooling_is_the_maximum_of_windows(shape):
    x = np.asarray(jax.random.normal(jax.random.key(0), shape))
    rows, columns = (max(1, size // 2) for size in shape[1:3])
    tall, wide = (2 if size > 1 else 1 for size in shape[1:3])
    wanted = [[x[:, tall * i : tall * i + tall, wide * j : wide * j + wide].max((1, 2)) for j in range(columns)] for i in range(rows)]
    np.testing.assert_array_equal(pooled(jnp.asarray(x)), np.moveaxis(np.array(wanted), 2, 0))


@pytest.mark.parametrize("kind", KINDS)
def test_training_moves_the_statistics_and_inference_sees_each_image_alone(kind):
    network = Classifier(2, kind=kind, base_width=4, num_blocks=2)
    image = jax.random.normal(jax.random.key(0), (4, 12, 12, 1))
    variables = jax.jit(network.init, static_argnums=2)(jax.random.key(1), image, False)
    _, moved = jax.jit(lambda variables, image: network.apply(variables, image, True, mutable=["batch_stats"]))(variables, image)
    assert not np.array_equal(*(jax.tree.leaves(one["batch_stats"])[0] for one in (variables, moved)))
    apply = jax.jit(lambda image: network.apply({**variables, **moved}, image, False))
    out, alone = apply(image), apply(image[:1])
    np.testing.assert_allclose(out[:1], alone, atol=1e-5)
    assert np.abs(np.asarray(out[0] - out[1])).max() > 1e-4


def test_a_residual_block_whose_convolutions_give_nothing_passes_its_input_on():
    network = Classifier(3, kind="residual", base_width=4, num_blocks=1)
    image = jax.random.normal(jax.random.key(0), (2, 9, 9, 4))
    variables = jax.jit(network.init, static_argnums=2)(jax.random.key(1), image, False)
    params = variables["params"]
    assert sorted(params) == ["BatchNorm_0", "BatchNorm_1", "Conv_0", "Conv_1", "Dense_0"]
    params = {**params, "BatchNorm_1": jax.tree.map(jnp.zeros_like, params["BatchNorm_1"])}
    wanted = np.maximum(image, 0).mean((1, 2)) @ params["Dense_0"]["kernel"]
    np.testing.assert_allclose(network.apply({**variables, "params": params}, image, False), wanted, atol=1e-5)
