"""U-Net and critic: the layers against PyTorch's, any size, how far a pixel is seen, tiles against the whole, what the fields do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from microscopy import tiling
from segmentation import networks
from segmentation.networks import UNet
from training import cost

RANDOM = np.random.default_rng(0)


def shapes(network, *arguments):
    """Returns the shapes of (variables, output) without computing anything."""
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), *arguments))
    output = jax.eval_shape(lambda v: network.apply(v, *arguments, mutable=["batch_stats"])[0], variables)
    return variables, output


def filled(network, *arguments):
    """Returns variables of the right shapes, made without compiling anything; biases and statistics are there to be seen."""

    def leaf(path, shape):
        name, values = path[-1].key, RANDOM.normal(size=shape.shape)
        if name == "kernel":
            values *= np.sqrt(2 / np.prod(shape.shape[:-1]))
        else:
            values = 0.2 * values + (1 if name == "scale" else 0) if name != "var" else 1 + 0.2 * abs(values)
        return jnp.asarray(values, jnp.float32)

    return jax.tree_util.tree_map_with_path(leaf, jax.eval_shape(lambda: network.init(jax.random.key(0), *arguments)))


def images(*shape):
    return jnp.asarray(RANDOM.uniform(-1, 1, shape), jnp.float32)


def torch_unet(torch, tree, depth, activation, pool, statistics):
    """Returns U-Net as a PyTorch function of images (b, c, *sizes) that are multiples, by the weights of ours."""
    functional, axes = torch.nn.functional, len(pool)
    conv, up, pooling = (getattr(functional, name) for name in (f"conv{axes}d", f"conv_transpose{axes}d", f"max_pool{axes}d"))
    params = jax.tree.map(lambda leaf: torch.from_numpy(np.array(leaf)), tree)
    statistics = jax.tree.map(lambda leaf: torch.from_numpy(np.array(leaf)), statistics)

    def level(x, name):
        for index in range(2):
            layer = params[f"{name}_conv{index}"]
            kernel = layer["kernel"].moveaxis((-1, -2), (0, 1))
            x = conv(x, kernel, layer.get("bias"), padding="same")
            if statistics:
                own, held = params[f"{name}_norm{index}"], statistics[f"{name}_norm{index}"]
                x = functional.batch_norm(x, held["mean"], held["var"], own["scale"], own["bias"])
            x = functional.relu(x) if activation == "relu" else functional.leaky_relu(x, 0.1)
        return x

    def forward(x):
        skipped = []
        for number in range(depth + 1):
            x = level(pooling(x, pool) if number else x, f"down{number}")
            skipped.append(x)
        for number in reversed(range(depth)):
            layer = params[f"up{number}_conv"]
            kernel = layer["kernel"].reshape(layer["kernel"].shape[0], *pool, -1).moveaxis(-1, 1)
            x = level(torch.cat([skipped[number], up(x, kernel, layer["bias"], stride=pool)], 1), f"up{number}")
        return torch.einsum("bc...,cd->bd...", x, params["last"]["kernel"]) + params["last"]["bias"].reshape(-1, *(1,) * axes)

    return forward


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        ({"depth": 2}, (2, 16, 24, 1)),
        (
            {"depth": 1, "activation": "leaky_relu", "leak": 0.1, "kernel": (5, 5), "norm": "batch", "num_maps": 1},
            (1, 16, 8, 3),
        ),
        ({"depth": 1, "kernel": (3, 3, 3), "pool": (2, 2, 2), "norm": "batch"}, (1, 4, 4, 6, 1)),
        ({"depth": 1, "activation": "leaky_relu", "leak": 0.1, "kernel": (1, 3, 5), "pool": (1, 2, 2)}, (2, 3, 4, 6, 1)),
    ],
)
def test_the_forward_pass_and_the_gradients_are_those_of_a_pytorch_u_net_of_the_same_weights(fields, shape):
    torch = pytest.importorskip("torch")
    model, image = UNet(base_width=3, **fields), images(*shape)
    variables = filled(model, image, False)
    statistics = variables.get("batch_stats", {})
    forward = torch_unet(torch, variables["params"], model.depth, model.activation, model.pool, statistics)
    theirs_in = torch.from_numpy(np.moveaxis(np.array(image), -1, 1).copy()).requires_grad_()
    theirs = forward(theirs_in)
    weights = images(*np.moveaxis(theirs.detach().numpy(), 1, -1).shape)
    (theirs * torch.from_numpy(np.moveaxis(np.array(weights), -1, 1).copy())).sum().backward()

    def ours(image):
        output = model.apply(variables, image, False)
        return (output * weights).sum(), output

    (_, output), gradient = jax.jit(jax.value_and_grad(ours, has_aux=True))(image)
    expected = np.moveaxis(theirs.detach().numpy(), 1, -1)
    scale = np.abs(expected).max()
    assert output.dtype == jnp.float32 and expected.std() > 1e-3 * scale
    np.testing.assert_allclose(output, expected, atol=1e-5 * scale)
    expected = np.moveaxis(theirs_in.grad.numpy(), 1, -1)
    np.testing.assert_allclose(gradient, expected, atol=2e-5 * np.abs(expected).max())


def test_the_published_u_net_has_31_million_parameters_and_385_gflop_at_512():
    model, size = UNet(num_maps=2, base_width=64, depth=4), 512
    variables, output = shapes(model, jnp.zeros((1, size, size, 1)), False)
    assert output.shape == (1, size, size, 2)
    widths, num_params, gflop = [64 * 2**level for level in range(5)], 0, 0.0
    for level, (width, before) in enumerate(zip(widths, [1, *widths], strict=False)):
        pixels = (size >> level) ** 2
        convolutions = [(before, width), (width, width)] + ([(2 * width, width), (width, width)] if level < 4 else [])
        num_params += sum(9 * a * b + b for a, b in convolutions)
        gflop += sum(2e-9 * pixels * 9 * a * b for a, b in convolutions)
        if level < 4:
            num_params += 4 * 2 * width * width + width
            gflop += 2e-9 * pixels * 2 * width * width
    num_params, gflop = num_params + 2 * 64 + 2, gflop + 2e-9 * size**2 * 64 * 2
    assert cost.num_params(variables["params"]) == num_params == 31_030_658
    counted = cost.gflop(lambda v, x: model.apply(v, x, False), variables, jax.ShapeDtypeStruct((1, size, size, 1), jnp.float32))
    assert counted == pytest.approx(gflop, rel=1e-6) and round(gflop) == 385


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (16, 16), (17, 31), (3, 40)])
def test_reflection_is_that_of_tiling(size):
    image = RANDOM.uniform(-1, 1, (*size, 2)).astype(np.float32)
    ours = networks.reflected(jnp.asarray(image)[None], (16, 16))
    np.testing.assert_array_equal(ours[0], tiling.padded(image, 16))


def test_any_size_is_the_padded_ones_output_cropped():
    model, image = UNet(base_width=4, depth=2), images(1, 21, 10, 1)
    variables, apply = filled(model, image, False), jax.jit(lambda v, x: model.apply(v, x, False))
    whole = apply(variables, jnp.asarray(tiling.padded(np.asarray(image[0]), 4))[None])
    assert whole.shape == (1, 24, 12, 2)
    np.testing.assert_allclose(apply(variables, image), whole[:, :21, :10], atol=1e-6)
    for sizes, pool in (((1, 1), (2, 2)), ((33, 50), (2, 2)), ((3, 9, 17), (1, 2, 2)), ((5, 6, 7), (2, 2, 2))):
        stack = UNet(base_width=4, depth=3, pool=pool, kernel=(3,) * len(pool), dtype=jnp.bfloat16, norm="batch")
        variables, output = shapes(stack, jnp.zeros((2, *sizes, 1)), True)
        assert output.shape == (2, *sizes, 2) and output.dtype == jnp.float32
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


def linear(model, image):
    """Returns parameters all positive and an image all positive, so that each pixel seen has a gradient, none cancelled or cut off."""
    variables = jax.tree.map(
        lambda leaf: jnp.full(leaf.shape, 1 / leaf.size), jax.eval_shape(lambda: model.init(jax.random.key(0), image, False))
    )
    return {"params": variables["params"]}


@pytest.mark.parametrize(
    ("depth", "pool", "kernel"),
    [
        (0, (2, 2), (3, 3)),
        (1, (2, 2), (3, 3)),
        (3, (2, 2), (3, 3)),
        (2, (2, 2), (5, 3)),
        (2, (1, 2, 2), (3, 3, 1)),
        (1, (2, 2, 2), (3, 1, 3)),
    ],
)
def test_the_receptive_radius_is_where_gradients_end(depth, pool, kernel):
    model = UNet(num_maps=1, base_width=1, depth=depth, pool=pool, kernel=kernel)
    radius, multiples = networks.receptive_radius(model), networks.multiple(model)
    assert multiples == tuple(side**depth for side in pool)
    sizes = tuple(-(-(2 * r + 2 * m + 1) // m) * m for r, m in zip(radius, multiples, strict=True))
    image = jnp.ones((1, *sizes, 1))
    variables = linear(model, image)
    gradient = jax.jit(jax.grad(lambda x, at: model.apply(variables, x, False)[(0, *at, 0)]))
    for axis in range(len(pool)):
        reach = []
        for offset in range(multiples[axis]):  # each place in the grid of poolings
            at = [-(-r // m) * m for r, m in zip(radius, multiples, strict=True)]
            at[axis] += offset
            seen = np.abs(gradient(image, tuple(at))[0, ..., 0]) > 0
            along = seen.any(tuple(other for other in range(len(pool)) if other != axis)).nonzero()[0]
            reach += [at[axis] - along[0], along[-1] - at[axis]]
        assert max(reach) == radius[axis]


def test_the_radius_of_a_u_net_of_depth_4_is_107_and_without_end_by_group_norm():
    assert networks.receptive_radius(UNet()) == (107, 107) and networks.multiple(UNet()) == (16, 16)
    assert networks.receptive_radius(UNet(pool=(1, 2, 2), kernel=(3, 3, 3))) == (18, 107, 107)
    with pytest.raises(ValueError, match="whole image"):
        networks.receptive_radius(UNet(norm="group"))


def test_tiles_with_that_halo_equal_the_whole_and_a_smaller_halo_does_not():
    model, image = UNet(base_width=4, depth=2, norm="batch"), images(1, 123, 90, 1)
    variables = filled(model, image, False)
    apply = jax.jit(lambda x: model.apply(variables, x, False))
    (halo, _), (multiple, _) = networks.receptive_radius(model), networks.multiple(model)
    whole = np.asarray(apply(image))[0]
    for width, equal in ((halo, True), (halo // 3, False)):
        tiled = tiling.in_tiles(apply, np.asarray(image[0]), tile=64, halo=width, multiple=multiple, batch=2)
        assert bool(np.abs(tiled - whole).max() < 1e-5) is equal


def test_batch_norm_moves_its_statistics_and_group_norm_looks_at_one_image():
    image = images(3, 8, 8, 1)
    batch = UNet(base_width=4, depth=1, norm="batch", momentum=0.75)
    variables = filled(batch, image, False)
    assert "bias" not in variables["params"]["down0_conv0"] and "bias" in variables["params"]["up0_conv"]
    train = jax.jit(lambda v, x: batch.apply(v, x, True, mutable=["batch_stats", "intermediates"], capture_intermediates=True))
    changed = train(variables, image)[1]
    layer = np.asarray(changed["intermediates"]["down0_conv0"]["__call__"][0]).reshape(-1, 4)
    held, moved = variables["batch_stats"]["down0_norm0"]["mean"], changed["batch_stats"]["down0_norm0"]["mean"]
    np.testing.assert_allclose(moved, 0.75 * held + 0.25 * layer.mean(0), atol=1e-6)
    group = UNet(base_width=4, depth=1, norm="group")
    variables = filled(group, image, False)
    apply = jax.jit(lambda x: group.apply(variables, x, True))
    np.testing.assert_allclose(apply(image)[:1], apply(image.at[1:].set(0.0))[:1], atol=1e-5)


def test_dropout_follows_its_key_and_acts_in_training_only():
    image = images(2, 8, 8, 1)
    dropped = UNet(base_width=4, depth=1, dropout=0.5)
    variables = filled(dropped, image, False)
    train = jax.jit(lambda key: dropped.apply(variables, image, True, rngs={"dropout": key}))
    outputs = [train(jax.random.key(seed)) for seed in (0, 0, 1)]
    assert np.array_equal(outputs[0], outputs[1]) and not np.allclose(outputs[0], outputs[2])
    plain = UNet(base_width=4, depth=1)
    held, linear = (jax.jit(lambda v, x, model=model: model.apply(v, x, False))(variables, image) for model in (dropped, plain))
    np.testing.assert_array_equal(held, linear)


@pytest.mark.parametrize(
    ("fields", "image"),
    [
        ({"norm": "layer"}, (1, 8, 8, 1)),
        ({"activation": "gelu"}, (1, 8, 8, 1)),
        ({"kernel": (2, 3)}, (1, 8, 8, 1)),
        ({"pool": (3, 3)}, (1, 8, 8, 1)),
        ({"pool": (2, 2, 2)}, (1, 8, 8, 8, 1)),
        ({}, (1, 8, 8, 8, 1)),
    ],
)
def test_other_fields_are_refused(fields, image):
    with pytest.raises(ValueError, match="choose|numbers|axes"):
        shapes(UNet(base_width=4, depth=1, **fields), jnp.zeros(image), False)
