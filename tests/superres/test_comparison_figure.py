"""The picture of a comparison, read back pixel by pixel."""

import numpy as np
import pytest

from superres import comparison_figure
from superres.comparison_figure import GAP, LINE, MIN_WIDTH

SIDE, HEAD = MIN_WIDTH, 2 * LINE + 4  # crops of half of MIN_WIDTH are shown at twice their size


def drawn(**options):
    generator = np.random.default_rng(0)
    high = generator.uniform(-0.9, 0.9, (2, SIDE // 2, SIDE // 2, options.pop("channels", 1))).astype(np.float32)
    low = high[:, ::4, ::4]
    off = high.copy()
    off[1, 10:20, 30:40] += 0.1
    made = {"equal": high, "off": off}
    labels = {name: ["1.00 dB", "2.00 dB"] for name in made}
    return comparison_figure.draw(low, made, high, labels, **options), low, high


def tile(picture, row, column):
    top = row // 2 * (HEAD + 2 * SIDE + 2 * GAP) + HEAD + row % 2 * (SIDE + GAP)
    return picture[top : top + SIDE, column * (SIDE + GAP) : column * (SIDE + GAP) + SIDE]


def test_images_and_errors_stand_in_their_columns():
    picture, low, high = drawn(channels=3)
    assert picture.dtype == np.uint8 and picture.shape == (2 * (HEAD + 2 * SIDE) + 3 * GAP, 4 * SIDE + 3 * GAP, 3)
    grey = np.rint((high[1] + 1) * 127.5).repeat(2, 0).repeat(2, 1)
    np.testing.assert_allclose(tile(picture, 2, 3), grey, atol=1)
    np.testing.assert_array_equal(tile(picture, 2, 1), tile(picture, 2, 3))
    np.testing.assert_allclose(tile(picture, 2, 0), np.rint((low[1] + 1) * 127.5).repeat(8, 0).repeat(8, 1)[:SIDE, :SIDE], atol=1)
    dark = tile(picture, 1, 1)[0, 0]
    assert dark.sum() < 30 and (tile(picture, 3, 1) == dark).all(), "no error where the image is the truth"
    errors = (tile(picture, 3, 2) != dark).any(-1)
    assert errors[20:40, 60:80].all() and errors.sum() == 400, "the planted square and nothing else"


def test_one_channel_is_stretched_alike_over_a_row():
    picture, _, high = drawn()
    low, top = np.percentile(high[0], (0.5, 99.5))
    expected = np.clip(np.rint((high[0] - low) / (top - low) * 255), 0, 255).repeat(2, 0).repeat(2, 1)
    for column in (1, 3):
        np.testing.assert_allclose(tile(picture, 0, column), np.broadcast_to(expected, (SIDE, SIDE, 3)), atol=1)


def test_the_scale_bar_is_on_the_first_truth_alone():
    plain, barred = drawn()[0], drawn(nm_per_pixel=0.5)[0]
    changed = (plain != barred).any(-1)
    assert changed.any() and not (tile(plain, 2, 3) != tile(barred, 2, 3)).any()
    changed = (tile(plain, 0, 3) != tile(barred, 0, 3)).any(-1)
    assert (plain != barred).any(-1).sum() == changed.sum()
    # 84 px of 0.5 nm: a bar of 10 nm is 20 px, shown twice as large.
    white = (tile(barred, 0, 3)[SIDE - 9, 8:] == 255).all(-1)
    assert white[:41].all() and not (tile(plain, 0, 3)[SIDE - 9, 8:49] == 255).all()


@pytest.mark.parametrize("unit", ["nm", "grey levels"])
def test_without_any_error_it_is_still_drawn(unit):
    high = np.zeros((1, 200, 190, 1), np.float32)
    picture = comparison_figure.draw(high[:, ::2, ::2], {"same": high}, high, {"same": ["200 dB"]}, unit=unit)
    assert picture.shape == (HEAD + 2 * 200 + GAP, 3 * 190 + 2 * GAP, 3)
