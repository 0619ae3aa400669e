"""What InceptionV3 is built of, as data: stem, blocks, the order of its convolutions, and how the published networks differ.

Source: Szegedy et al., arXiv:1512.00567; layer names are those of the PyTorch ports.
"""

from typing import NamedTuple

TAPS = ("64", "192", "768", "2048", "logits")
"""Means over space after the first and second max pool, Mixed_6e and Mixed_7c; `logits`: what the last layer, `fc`, makes of those."""


class Variant(NamedTuple):
    """How a published network differs: classes, bias of `fc`, the divisor of average pools at the border, the pool of Mixed_7c, input."""

    num_logits: int
    fc_bias: bool
    counts_padding: bool
    last_pool: str
    centre: float
    resize: str


VARIANTS = {
    "fid": Variant(1008, False, False, "max", 128, "tf1"),
    "imagenet-torchvision": Variant(1000, True, True, "mean", 127.5, "bilinear"),
    "imagenet-keras": Variant(1000, True, False, "mean", 127.5, "bilinear"),
}
"""`fid`: TensorFlow's graph of 2015-12-05 as the FID takes it, logits without bias. The others: ImageNet's, published with those libraries.

Images x in 0..255 enter as (x - centre) / centre. torchvision's `transform_input` after its own normalisation by mean m and std s of
x / 255 is ((x / 255 - m) / s) (s / 0.5) + (m - 0.5) / 0.5 = x / 127.5 - 1: the same. Keras' average pools leave the padding out.
"""

POINT, SQUARE = (1, 1), (3, 3)
_FIVE, _ROW, _COLUMN, _LOW, _TALL = (5, 5), (1, 7), (7, 1), (1, 3), (3, 1)


class Layout(NamedTuple):
    """Branches and the channels of the pool branch; none: a block that halves the size.

    A branch is a chain of (name, channels, kernel); one that ends in two convolutions of the same input has both in its last place.
    """

    branches: tuple
    pool_channels: int


def _double(first: int, last: int) -> tuple:
    return (("branch3x3dbl_1", first, POINT), ("branch3x3dbl_2", last, SQUARE), ("branch3x3dbl_3", last, SQUARE))


def _block_5(pool: int) -> Layout:
    five = (("branch5x5_1", 48, POINT), ("branch5x5_2", 64, _FIVE))
    return Layout(((("branch1x1", 64, POINT),), five, _double(64, 96)), pool)


def _block_6(middle: int) -> Layout:
    seven = (("branch7x7_1", middle, POINT), ("branch7x7_2", middle, _ROW), ("branch7x7_3", 192, _COLUMN))
    sizes = ((middle, POINT), (middle, _COLUMN), (middle, _ROW), (middle, _COLUMN), (192, _ROW))
    double = tuple((f"branch7x7dbl_{place}", *size) for place, size in enumerate(sizes, 1))
    return Layout(((("branch1x1", 192, POINT),), seven, double), 192)


def _block_7() -> Layout:
    three = (("branch3x3_1", 384, POINT), (("branch3x3_2a", 384, _LOW), ("branch3x3_2b", 384, _TALL)))
    double = (*_double(448, 384)[:2], (("branch3x3dbl_3a", 384, _LOW), ("branch3x3dbl_3b", 384, _TALL)))
    return Layout(((("branch1x1", 320, POINT),), three, double), 192)


_SEVEN = (("branch7x7x3_1", 192, POINT), ("branch7x7x3_2", 192, _ROW), ("branch7x7x3_3", 192, _COLUMN), ("branch7x7x3_4", 192, SQUARE))

BLOCKS = {
    "Mixed_5b": _block_5(32),
    "Mixed_5c": _block_5(64),
    "Mixed_5d": _block_5(64),
    "Mixed_6a": Layout(((("branch3x3", 384, SQUARE),), _double(64, 96)), 0),
    "Mixed_6b": _block_6(128),
    "Mixed_6c": _block_6(160),
    "Mixed_6d": _block_6(160),
    "Mixed_6e": _block_6(192),
    "Mixed_7a": Layout(((("branch3x3_1", 192, POINT), ("branch3x3_2", 320, SQUARE)), _SEVEN), 0),
    "Mixed_7b": _block_7(),
    "Mixed_7c": _block_7(),
}

STAGES = (
    (("Conv2d_1a_3x3", 32, SQUARE, 2, False), ("Conv2d_2a_3x3", 32, SQUARE, 1, False), ("Conv2d_2b_3x3", 64, SQUARE)),
    (("Conv2d_3b_1x1", 80, POINT), ("Conv2d_4a_3x3", 192, SQUARE, 1, False)),
    tuple(BLOCKS)[:8],
    tuple(BLOCKS)[8:],
)
"""What lies before each tap; layers of the stem are (name, channels, kernel, stride, padded)."""


def ends(branch: tuple) -> tuple:
    """Returns the convolutions a branch ends in: one, or two of the same input."""
    return branch[-1] if isinstance(branch[-1][0], tuple) else branch[-1:]


def construction_order() -> list[str]:
    """Returns the names of the 94 convolutions in the order in which the networks' codes, torchvision's and Keras', build them."""
    names = [layer[0] for stage in STAGES[:2] for layer in stage]
    for block, (branches, pool_channels) in BLOCKS.items():
        names += [f"{block}.{layer[0]}" for branch in branches for layer in (*branch[:-1], *ends(branch))]
        names += [f"{block}.branch_pool"] if pool_channels else []
    return names
