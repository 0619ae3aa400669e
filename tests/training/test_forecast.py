"""The forecast: operations against hand counts, the clock against a counted one, the warning without a compilation."""

import itertools
import time

import jax
import jax.numpy as jnp
import pytest

from configs import dcgan96
from training import forecast, loop


def lowered(function, *shapes):
    return jax.jit(function).lower(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes))


def taps(size, kernel):
    """Input pixels that the kernels of a stride-2 "SAME" convolution meet along one axis, borders left out."""
    before = kernel // 2 - 1
    return sum(0 <= 2 * out - before + k < size for out in range(size // 2) for k in range(kernel))


def test_operations_of_a_matrix_product_and_of_a_convolution():
    assert forecast.num_flops(lowered(jnp.matmul, (30, 40), (40, 50))) == 2 * 30 * 40 * 50
    kernel = (5, 5, 8, 16)
    layout = ("NHWC", "HWIO", "NHWC")

    def convolve(image, kernel):
        return jax.lax.conv_general_dilated(image, kernel, (2, 2), ((1, 2), (1, 2)), dimension_numbers=layout)

    assert forecast.num_flops(lowered(convolve, (2, 32, 32, 8), kernel)) == 2 * 2 * taps(32, 5) ** 2 * 8 * 16
    chained = forecast.num_flops(lowered(lambda a, b: jnp.matmul(jnp.matmul(a, b), b), (30, 40), (40, 40)))
    assert chained == 2 * (2 * 30 * 40 * 40)


@pytest.fixture(scope="module")
def step():
    """A training step of the real DCGAN-96 and its config, traced from shapes alone."""
    config = dcgan96.get_config()
    task = loop.method(config).make_task(config)
    key = jax.random.key(0)
    state = jax.eval_shape(lambda k: task.init(k, None), key)
    batch = {"image": jax.ShapeDtypeStruct((config.train.batch_size, 96, 96, 1), jnp.float32)}
    return config, jax.jit(task.train_step).lower(state, task.frozen, batch, key)


def test_a_training_step_of_dcgan96_is_ten_passes(step):
    """Generator 3 (forward, both gradients), discriminator 3 on real images, 4 on generated ones (once more for the generator)."""
    widths = [1, 128, 256, 512, 1024]
    one = sum(2 * taps(96 >> block, 5) ** 2 * widths[block] * widths[block + 1] for block in range(4))
    assert forecast.num_flops(step[1]) == pytest.approx(10 * 64 * one, rel=0.05)


def test_the_warning_for_dcgan96_names_the_small_preset_and_compiles_nothing(step, monkeypatch):
    config, program = step
    monkeypatch.setattr(jax.stages.Lowered, "compile", lambda *_: pytest.fail("compiled"))
    monkeypatch.setattr(forecast, "matmul_rate", lambda: 100e9)
    seconds = forecast.num_flops(program) / 100e9
    assert forecast.warning(program, config.train.num_steps, config.name) == (
        f"On this CPU a step takes {seconds:.1f} s or more and 100,000 steps {seconds * 1e5 / 86400:.1f} days or more.\n"
        "For a result in minutes: --config=configs/dcgan96.py:cpu (a smaller network); for this one: a GPU."
    )


def test_the_warning_begins_at_six_hours(monkeypatch):
    program = lowered(jnp.matmul, (500, 1000), (1000, 1000))
    monkeypatch.setattr(forecast, "matmul_rate", lambda: 1e9)  # one second a step
    assert forecast.warning(program, 6 * 3600 - 1, "x") is None
    assert "21,600 steps 6.0 hours or more" in forecast.warning(program, 6 * 3600, "x")


def test_the_rate_is_the_operations_of_the_fastest_product_over_its_time(monkeypatch):
    ticks = itertools.accumulate([0, 0.5, 9, 0.25, 9, 2])  # products of 0.5, 0.25 and 2 s
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    assert forecast.matmul_rate(size=64, repeats=3) == 2 * 64**3 / 0.25
    monkeypatch.undo()
    assert 1e6 < forecast.matmul_rate(size=128) < 1e16


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 seconds"),
        (40, "40 seconds"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (12 * 60, "12 minutes"),
        (7199, "120 minutes"),
        (7200, "2.0 hours"),
        (5.14 * 3600, "5.1 hours"),
        (47.9 * 3600, "47.9 hours"),
        (48 * 3600, "2.0 days"),
        (3.2 * 86400, "3.2 days"),
    ],
)
def test_durations_in_words(seconds, words):
    assert forecast.duration(seconds) == words
