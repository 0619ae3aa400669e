"""Features against published-reference values from the true weights, and against a forward pass in PyTorch with random ones."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import resize
from metrics import inception
from metrics.weights import Weights, load
from microscopy.scan import DataError

PARTIAL = ("64", "192", "768")
CHOSEN = range(1, 65, 4)  # one part on two devices


@pytest.fixture(scope="module")
def partial(real_data):
    folder = real_data / "inception-fid-weights"
    if not folder.is_dir():
        pytest.skip(f"no weights at {folder}")
    return load(str(folder / "inception_v3_2015_12_05_bnfolded_to_mixed7a.npz"))


@pytest.fixture(scope="module")
def cells(real_data):
    folder = real_data / "wbc-cytology" / "images"
    if not folder.is_dir():
        pytest.skip(f"no images at {folder}")
    return np.stack([cv2.imread(str(folder / f"{number:03}.png"))[..., ::-1] for number in CHOSEN])


def random_weights(taps, seed=0):
    generator = np.random.default_rng(seed)
    shapes = inception.layers(taps)
    return Weights("random", "", {n: np.float32(generator.normal(0, np.prod(s[:-1]) ** -0.5, s)) for n, s in shapes.items()})


@pytest.fixture(scope="module")
def run():
    return inception.make_features(random_weights(("64",)), ("64",))


def test_features_of_real_images_are_the_references(real_data, partial, cells):
    found = inception.features(partial, cells, PARTIAL)
    with np.load(real_data / "fid-reference" / "features_wbc_001_064.npz") as expected:
        for tap in PARTIAL:
            rows = expected[f"f{tap}"][np.array(CHOSEN) - 1]
            assert found[tap].dtype == np.float32
            np.testing.assert_allclose(found[tap], rows, atol=4e-6 * rows.max(), rtol=0)


def test_a_partial_file_says_what_it_reaches(partial):
    assert inception.reached(partial) == PARTIAL
    with pytest.raises(DataError, match=r"lacks Mixed_7b.* 2048, logits, only 64, 192, 768") as error:
        inception.make_features(partial, ("64", "2048", "logits"))
    assert partial.file in str(error.value) and str(error.value).count("\n") < 5


def test_features_depend_neither_on_the_number_of_images_nor_on_their_place(run):
    images = np.random.default_rng(1).integers(0, 256, (21, 20, 24, 3), np.uint8)
    whole = run(images)["64"]
    assert whole.shape == (21, 64) and len(np.unique(whole, axis=0)) == 21
    for start, end in ((5, 8), (16, 21)):
        np.testing.assert_array_equal(run(images[start:end])["64"], whole[start:end])
    np.testing.assert_array_equal(run(images[::-1])["64"], whole[::-1])


def test_a_list_may_mix_sizes_and_colours(run):
    source = np.random.default_rng(8)
    images = [source.integers(0, 256, shape, np.uint8) for shape in ((20, 24), (30, 20, 3), (20, 24, 1), (31, 20, 3)) for _ in range(5)]
    found = run(images)["64"]
    assert found.shape == (20, 64)
    for place in (0, 9, 12, 19):
        np.testing.assert_allclose(found[place], run(images[place][None])["64"][0], rtol=2e-6)
    np.testing.assert_array_equal(found[::-1], run(images[::-1])["64"])
    np.testing.assert_array_equal(run(images[5:10])["64"], run(np.stack(images[5:10]))["64"])
    for wrong in ([], [images[0], images[1].astype(float)], [images[0], images[5][..., :2]]):
        with pytest.raises(DataError, match="takes uint8"):
            run(wrong)


def test_grey_images_are_three_equal_channels(run):
    grey = np.random.default_rng(2).integers(0, 256, (3, 20, 24), np.uint8)
    expected = run(np.repeat(grey[..., None], 3, 3))["64"]
    np.testing.assert_allclose(run(grey)["64"], expected, rtol=1e-6)
    np.testing.assert_array_equal(run(grey[..., None])["64"], run(grey)["64"])


def test_bfloat16_is_near_float32(run):
    images = np.random.default_rng(3).integers(0, 256, (4, 20, 24, 3), np.uint8)
    exact = run(images)["64"]
    rough = inception.features(random_weights(("64",)), images, ("64",), jnp.bfloat16)["64"]
    deviation = np.linalg.norm(rough - exact) / np.linalg.norm(exact)
    assert rough.dtype == np.float32 and 1e-5 < deviation < 1e-2


@pytest.mark.parametrize(("how", "filtered"), [("tf1", resize.tf1_bilinear), ("clean", resize.pil_bicubic)])
def test_images_are_resized_then_mapped(how, filtered):
    images = np.random.default_rng(4).integers(0, 2, (2, 400, 30, 3), np.uint8) * np.uint8(255)
    found = inception.prepare(images, how)
    expected = np.asarray(filtered(images, 299, 299))
    assert found.shape == (2, 299, 299, 3)
    np.testing.assert_allclose(found, (expected.clip(0, 255) - 128) / 128, atol=1e-6)
    assert (expected.max() > 256) == (how == "clean")


@pytest.mark.parametrize(("size", "grid"), [(75, 1), (299, 8)])
def test_shapes_of_the_whole_network(size, grid):
    def captured(variables, images):
        return inception.Inception().apply(variables, images, capture_intermediates=lambda module, _: isinstance(module, inception.Block))

    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    variables = jax.eval_shape(inception.Inception().init, jax.random.key(0), images)
    features, state = jax.eval_shape(captured, variables, images)
    assert {tap: leaf.shape for tap, leaf in features.items()} == {
        tap: (2, int(tap) if tap != "logits" else 1008) for tap in inception.TAPS
    }
    blocks = {name: of["__call__"][0].shape for name, of in state["intermediates"].items()}
    assert blocks["Mixed_7c"] == (2, grid, grid, 2048) and [blocks[f"Mixed_{n}"][3] for n in ("5b", "5d", "6a", "7a")] == [
        256,
        288,
        768,
        1280,
    ]
    # The number of parameters of the published network without its batch norms' statistics and the bias of `fc`.
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(variables)) == 21768352 + 2048 * 1008


def test_wrong_requests_are_one_short_error(run):
    weights = random_weights(("64",))
    with pytest.raises(DataError, match="features 65: not one of 64, 192"):
        inception.make_features(weights, ("65",))
    with pytest.raises(DataError, match="resize nice: not one of tf1, clean"):
        inception.make_features(weights, ("64",), how="nice")
    whole = Weights("w", "", random_weights(inception.TAPS).arrays, "imagenet-torchvision")
    with pytest.raises(DataError, match="fc/.* logits, only 64, 192, 768, 2048"):
        inception.make_features(whole, ("logits",))
    with pytest.raises(DataError, match="another shape in Conv2d_1a_3x3/bias.* 64, only none"):
        inception.make_features(Weights("w", "", weights.arrays | {"Conv2d_1a_3x3/bias": np.zeros(3)}), ("64",))
    for images in (np.zeros((2, 8, 8, 3)), np.zeros((0, 8, 8), np.uint8), np.zeros((2, 8, 8, 4), np.uint8), np.zeros((8, 8), np.uint8)):
        with pytest.raises(DataError, match="takes uint8"):
            run(images)


class Reference:
    """The networks written once more, in PyTorch, with batch norm; layers come into being with random numbers when first used."""

    def __init__(self, torch, network="fid"):
        self.torch, self.state, self.generator, self.network = torch, {}, torch.Generator().manual_seed(0), network

    def conv(self, x, name, channels, size, stride=1, padding=(0, 0)):
        torch, functional = self.torch, self.torch.nn.functional
        if f"{name}.conv.weight" not in self.state:
            made = torch.randn(channels, x.shape[1], *size, generator=self.generator) * (2 / (x.shape[1] * size[0] * size[1])) ** 0.5
            uniform = [torch.rand(channels, generator=self.generator) for _ in range(4)]
            norm = {"weight": 1 + uniform[0], "bias": uniform[1] - 0.5, "running_mean": uniform[2] - 0.5, "running_var": 0.2 + uniform[3]}
            self.state |= {f"{name}.conv.weight": made} | {f"{name}.bn.{part}": value for part, value in norm.items()}
        x = functional.conv2d(x, self.state[f"{name}.conv.weight"], None, stride, padding)
        part = {part: self.state[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")}
        return functional.relu(functional.batch_norm(x, *part.values(), eps=0.001))

    def chain(self, x, block, *layers):
        for name, channels, size in layers:
            x = self.conv(x, f"{block}.{name}", channels, size, 1, (size[0] // 2, size[1] // 2))
        return x

    def end(self, x, block, *layers):
        return self.torch.cat([self.chain(x, block, layer) for layer in layers], 1)

    def five(self, x, block, pool):
        one = self.chain(x, block, ("branch1x1", 64, (1, 1)))
        five = self.chain(x, block, ("branch5x5_1", 48, (1, 1)), ("branch5x5_2", 64, (5, 5)))
        three = self.chain(x, block, ("branch3x3dbl_1", 64, (1, 1)), ("branch3x3dbl_2", 96, (3, 3)), ("branch3x3dbl_3", 96, (3, 3)))
        return self.torch.cat([one, five, three, self.chain(self.mean(x), block, ("branch_pool", pool, (1, 1)))], 1)

    def six(self, x, block, middle):
        one = self.chain(x, block, ("branch1x1", 192, (1, 1)))
        seven = self.chain(x, block, ("branch7x7_1", middle, (1, 1)), ("branch7x7_2", middle, (1, 7)), ("branch7x7_3", 192, (7, 1)))
        y = self.chain(x, block, ("branch7x7dbl_1", middle, (1, 1)), ("branch7x7dbl_2", middle, (7, 1)), ("branch7x7dbl_3", middle, (1, 7)))
        y = self.chain(y, block, ("branch7x7dbl_4", middle, (7, 1)), ("branch7x7dbl_5", 192, (1, 7)))
        return self.torch.cat([one, seven, y, self.chain(self.mean(x), block, ("branch_pool", 192, (1, 1)))], 1)

    def seven(self, x, block, pool):
        one = self.chain(x, block, ("branch1x1", 320, (1, 1)))
        y = self.chain(x, block, ("branch3x3_1", 384, (1, 1)))
        y = self.end(y, block, ("branch3x3_2a", 384, (1, 3)), ("branch3x3_2b", 384, (3, 1)))
        z = self.chain(x, block, ("branch3x3dbl_1", 448, (1, 1)), ("branch3x3dbl_2", 384, (3, 3)))
        z = self.end(z, block, ("branch3x3dbl_3a", 384, (1, 3)), ("branch3x3dbl_3b", 384, (3, 1)))
        return self.torch.cat([one, y, z, self.chain(pool(x), block, ("branch_pool", 192, (1, 1)))], 1)

    def mean(self, x):
        return self.torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=self.network == "imagenet-torchvision")

    def maximum(self, x):
        return self.torch.nn.functional.max_pool2d(x, 3, 1, 1)

    def halve(self, x):
        return self.torch.nn.functional.max_pool2d(x, 3, 2)

    def __call__(self, x):
        x = self.conv(x, "Conv2d_1a_3x3", 32, (3, 3), 2)
        x = self.conv(self.conv(x, "Conv2d_2a_3x3", 32, (3, 3)), "Conv2d_2b_3x3", 64, (3, 3), 1, 1)
        first = self.halve(x)
        second = self.halve(self.conv(self.conv(first, "Conv2d_3b_1x1", 80, (1, 1)), "Conv2d_4a_3x3", 192, (3, 3)))
        x = self.five(self.five(self.five(second, "Mixed_5b", 32), "Mixed_5c", 64), "Mixed_5d", 64)
        y = self.chain(x, "Mixed_6a", ("branch3x3dbl_1", 64, (1, 1)), ("branch3x3dbl_2", 96, (3, 3)))
        y = self.conv(y, "Mixed_6a.branch3x3dbl_3", 96, (3, 3), 2)
        x = self.torch.cat([self.conv(x, "Mixed_6a.branch3x3", 384, (3, 3), 2), y, self.halve(x)], 1)
        for block, middle in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
            x = self.six(x, block, middle)
        third = x
        y = self.conv(self.chain(x, "Mixed_7a", ("branch3x3_1", 192, (1, 1))), "Mixed_7a.branch3x3_2", 320, (3, 3), 2)
        z = self.chain(x, "Mixed_7a", ("branch7x7x3_1", 192, (1, 1)), ("branch7x7x3_2", 192, (1, 7)), ("branch7x7x3_3", 192, (7, 1)))
        x = self.torch.cat([y, self.conv(z, "Mixed_7a.branch7x7x3_4", 192, (3, 3), 2), self.halve(x)], 1)
        pool, classes = (self.maximum, 1008) if self.network == "fid" else (self.mean, 1000)
        last = self.seven(self.seven(x, "Mixed_7b", self.mean), "Mixed_7c", pool).mean((2, 3))
        self.state.setdefault("fc.weight", self.torch.randn(classes, 2048, generator=self.generator) / 45)
        self.state.setdefault("fc.bias", self.torch.randn(classes, generator=self.generator))
        logits = last @ self.state["fc.weight"].T + (0 if self.network == "fid" else self.state["fc.bias"])
        means = [part.mean((2, 3)) for part in (first, second, third)]
        return dict(zip(inception.TAPS, (*means, last, logits), strict=True))


def built():
    """Returns the names of the convolutions as keras.applications.inception_v3 and torchvision build them, written out by hand."""
    double, cross = ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"], ["branch3x3dbl_3a", "branch3x3dbl_3b", "branch_pool"]
    five = ["branch1x1", "branch5x5_1", "branch5x5_2", *double, "branch_pool"]
    seven = ["branch7x7_1", "branch7x7_2", "branch7x7_3", *(f"branch7x7dbl_{place}" for place in range(1, 6)), "branch_pool"]
    last = ["branch1x1", "branch3x3_1", "branch3x3_2a", "branch3x3_2b", *double[:2], *cross]
    blocks = {f"Mixed_5{letter}": five for letter in "bcd"} | {"Mixed_6a": ["branch3x3", *double]}
    blocks |= {f"Mixed_6{letter}": ["branch1x1", *seven] for letter in "bcde"}
    blocks |= {"Mixed_7a": ["branch3x3_1", "branch3x3_2", *(f"branch7x7x3_{place}" for place in range(1, 5))]}
    blocks |= {"Mixed_7b": last, "Mixed_7c": last}
    stem = ["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"]
    return stem + [f"{block}.{layer}" for block, layers in blocks.items() for layer in layers]


def keras_names(state):
    """Returns a state dict's arrays as Keras keeps them, numbered from 95 as in a session's second model; batch norms have no scale."""
    arrays = {"model/predictions/kernel:0": state["fc.weight"].T, "model/predictions/bias:0": state["fc.bias"]}
    for number, name in enumerate(built(), 95):
        assert (state[f"{name}.bn.weight"] == 1).all()
        arrays[f"conv2d_{number}/conv2d_{number}/kernel:0"] = state[f"{name}.conv.weight"].transpose(2, 3, 1, 0)
        for theirs, ours in (("beta", "bias"), ("moving_mean", "running_mean"), ("moving_variance", "running_var")):
            arrays[f"batch_normalization_{number}/{theirs}:0"] = state[f"{name}.bn.{ours}"]
    return dict(reversed(arrays.items()))


@pytest.mark.parametrize("network", ["fid", "imagenet-torchvision", "imagenet-keras"])
def test_every_tap_is_that_of_pytorch_with_the_same_weights_file(tmp_path, network):
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    reference, images = Reference(torch, network), np.random.default_rng(5).uniform(-1, 1, (2, 107, 91, 3)).astype(np.float32)
    with torch.no_grad():
        pixels = torch.tensor(images.transpose(0, 3, 1, 2))
        expected = reference(pixels)
        if network == "imagenet-keras":
            reference.state |= {name: torch.ones_like(gain) for name, gain in reference.state.items() if name.endswith("bn.weight")}
            expected = reference(pixels)
    weights = stored(torch, reference.state, network, tmp_path)
    assert weights.network == network and inception.reached(weights) == inception.TAPS
    found = jax.jit(inception.Inception(network=network).apply)(inception.parameters(weights, inception.TAPS), images)
    for tap in inception.TAPS:
        values = expected[tap].numpy()
        assert np.ptp(values, axis=0).max() > 0.01 * abs(values).max()
        np.testing.assert_allclose(found[tap], values, atol=1e-5 * abs(values).max(), rtol=0)


def stored(torch, state, network, folder):
    """Returns the weights of a file as the network's publisher writes it, read back."""
    if network == "imagenet-keras":
        np.savez(folder / "weights.npz", **keras_names({name: tensor.numpy() for name, tensor in state.items()}))
        return load(str(folder / "weights.npz"))
    aux = {"AuxLogits.conv0.conv.weight": torch.zeros(128, 768, 1, 1), "AuxLogits.fc.weight": torch.zeros(1000, 768)}
    state = state | (aux if network == "imagenet-torchvision" else {})
    torch.save(state, folder / "weights.pth")
    torch.save(state, folder / "older.pth", _use_new_zipfile_serialization=False)
    weights, older = (load(str(folder / name)) for name in ("weights.pth", "older.pth"))
    assert all(np.array_equal(older.arrays[name], array) for name, array in weights.arrays.items())
    return weights
