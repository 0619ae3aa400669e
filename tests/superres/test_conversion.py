"""Published weights in our network: equal to their own network, borders too, on its own protocol, and for grey pictures."""

import json

import cv2
import jax
import numpy as np
import pytest

from microscopy.scan import DataError
from superres.conversion import convert
from superres.networks import Generator
from tests.superres import published


def converted(state, channels):
    """Returns enlarge(image (h, w, channels) in [-1, 1]) -> array in [-1, 1]."""
    fields, params, stats = convert(state, channels)
    network = Generator(**fields)
    apply = jax.jit(lambda variables, image: network.apply(variables, image, False))
    return lambda image: np.asarray(apply({"params": params, "batch_stats": stats}, np.float32(image)[None]))[0]


@pytest.fixture(scope="module")
def pretrained(real_data):
    with np.load(real_data / "srgan-x4-pretrained" / "netG_x4.npz") as stored:
        return {name: stored[name] for name in stored.files}


def picture(path):
    """Returns the stored numbers, RGB in three channels or grey in one."""
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return stored[..., None] if stored.ndim == 2 else stored[..., ::-1]


@pytest.mark.parametrize("shape", [{}, {"num_up": 2, "size": 9, "num_blocks": 1}, {"num_up": 3, "num_blocks": 1, "maps": 4, "size": 5}])
def test_any_number_of_blocks_scale_and_kernel_gives_what_the_published_network_gives(shape):
    state = published.state_dict(**shape)
    unit = np.random.default_rng(1).uniform(0, 1, (6, 7, 3))
    expected = published.forward(state, unit)
    assert expected.std() > 0.05
    np.testing.assert_allclose((converted(state, 3)(2 * unit - 1) + 1) / 2, expected, atol=1e-5)
    grey = unit[..., :1]
    expected = published.forward(state, grey.repeat(3, -1)).mean(-1, keepdims=True)
    found = (converted(state, 1)(2 * grey - 1) + 1) / 2
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_pretrained_weights_equal_their_network_on_a_crop_with_borders(pretrained, real_data):
    unit = picture(real_data / "sr-x4" / "Set5" / "img_003_LR.png")[:12, :14] / 255
    found = (converted(pretrained, 3)(2 * unit - 1) + 1) / 2
    np.testing.assert_allclose(found, published.forward(pretrained, unit), atol=1e-5)


def test_a_real_grey_picture_gets_the_mean_of_the_rgb_network(pretrained, real_data):
    grey = picture(real_data / "sr-x4" / "Set14" / "img_003_LR.png") / 127.5 - 1
    assert grey.shape[-1] == 1
    found, expected = converted(pretrained, 1)(grey), converted(pretrained, 3)(grey.repeat(3, -1))
    assert np.abs(expected[..., 0] - expected[..., 2]).max() > 0.01  # the three maps differ: the mean is not one of them
    np.testing.assert_allclose(found, expected.mean(-1, keepdims=True), atol=1e-5)


PAIRS = [*(f"Set5/img_{number:03d}" for number in range(1, 6)), *(f"Set14/img_{number:03d}" for number in range(1, 15))]


@pytest.mark.parametrize("name", PAIRS)
def test_the_published_psnr_in_its_own_protocol(pretrained, real_data, name):
    folder, number = name.split("/img_")
    low, high = (picture(real_data / "sr-x4" / f"{name}_{kind}.png") for kind in ("LR", "HR"))
    low, high = (np.broadcast_to(one, (*one.shape[:2], 3)) for one in (low, high))  # one of Set14 is grey
    found = converted(pretrained, 3)(low / 127.5 - 1).astype(np.float64) / 2 + 0.5  # float, neither clipped nor rounded
    psnr = -10 * np.log10(np.mean((found - high / 255) ** 2))
    listed = json.loads((real_data / "srgan-x4-pretrained" / "computed_psnr.json").read_text())["psnr_rgb"][folder][int(number) - 1]
    assert psnr == pytest.approx(listed, abs=0.001)


WRONG = [
    ({"block2.bn1.running_var": None}, r"running_var of shape \(8,\): it is absent"),
    ({"block1.0.weight": np.zeros((8, 1, 3, 3), np.float32)}, "block1.0.weight of shape"),
    ({"block1.0.weight": np.zeros((8, 3, 4, 4), np.float32)}, "block1.0.weight of shape"),
    ({"block1.1.weight": np.zeros(8, np.float32)}, "block1.1.weight of shape"),
    ({"block5.1.bias": np.float32([0, np.inf, 0])}, "block5.1.bias that are not finite"),
    ({"block9.0.weight": np.zeros(3)}, "also holds block9.0.weight"),
    ({"block5.0.conv.weight": None}, "2 residual blocks and 0 sub-pixel layers"),
]


@pytest.mark.parametrize(("change", "reason"), WRONG)
def test_a_state_dict_that_does_not_fit_is_one_error(change, reason):
    state = {name: array for name, array in (published.state_dict() | change).items() if array is not None}
    with pytest.raises(DataError, match=reason) as error:
        convert(state, 1)
    assert str(error.value).count("\n") < 5
