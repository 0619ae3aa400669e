"""The audit's arithmetic, and that it tells a perfect critic from a useless and from a perverse one."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from configs import unet_gan_isbi2012
from segmentation import audit, losses, metric_critic
from training.task import Data


def test_the_fullest_window():
    values = np.array([0.1, 0.5, 0.52, 0.54, 0.56, 0.9])
    assert audit.fullest_window(values, 0.05).tolist() == [False, True, True, True, False, False]


def test_spearman_is_scipys_and_0_where_there_is_no_order():
    first, second = np.random.default_rng(0).normal(size=(2, 30))
    second = second.round(0)  # ties
    ranks = [scipy.stats.rankdata(one) for one in (first, second)]
    assert audit.spearman(first, second) == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert audit.spearman(first, np.ones(30)) == 0 and audit.spearman(first[:2], second[:2]) == 0


class Fixed:
    """A critic that knows the truth, which is the sign of the image here: `said` of the true quality."""

    def __init__(self, quality, said, windows=None):
        self.quality, self.said, self.windows = quality, said, windows

    def apply(self, variables, image, masks, train):
        truth = jnp.tile(losses.to_signs(image[..., 0]), (len(masks) // len(image), 1, 1))
        value = losses.QUALITIES[self.quality](masks[..., 0], truth)
        return self.said(value), self.windows and self.windows(value)[:, None, None]


def looked(quality, said, windows=None):
    config = unet_gan_isbi2012.get_config("tiny").unlock()
    config.train.update({"quality": quality, "augment": "none", "batch_size": 8, "critic_warmup": 0, "rate": 1e-3})
    config.train.window_weight = 2.0 if windows else 0.0
    config.model.norm = "none"
    config.eval.num_audited_steps = 6
    task = metric_critic.make_task(config)
    image = jax.random.normal(jax.random.key(5), (8, 32, 32, 1)).clip(-1, 1)
    batch = {"image": image, "mask": (image[..., 0] > 0).astype(jnp.int32), "valid": jnp.arange(8) < 7}
    data = Data({}, None, None, lambda split: iter([batch, batch]), types.SimpleNamespace())
    network, critic = metric_critic.make_network(config), Fixed(quality, said, windows)
    optimizers = metric_critic.supervised.make_optimizer(config.train), optax.adam(config.train.critic_rate)
    step = metric_critic.make_train_step(config, network, critic, optimizers)
    look = audit.make_audit(config, network, critic, step)
    return look(task.init(jax.random.key(0), None), data, jax.random.key(1))


@pytest.mark.parametrize("quality", ["squaring", "iou"])
def test_a_critic_that_knows_the_truth_passes_and_its_opposite_fails(quality):
    scalars, rows, protocol = looked(quality, lambda value: 3 * value + 1)
    assert [row["n"] for row in rows][::2] == [14, 14] and "14 crops, 6 single steps" in protocol
    assert scalars["critic/cosine"] == pytest.approx(1, abs=1e-5) and scalars["critic/steps_better"] == 1
    assert scalars["critic/spearman_predicted"] == pytest.approx(1) and scalars["critic/spearman_damaged"] == pytest.approx(1)
    scalars, *_ = looked(quality, lambda value: -value)
    assert scalars["critic/cosine"] == pytest.approx(-1, abs=1e-5) and scalars["critic/steps_better"] == 0
    assert scalars["critic/spearman_damaged"] == pytest.approx(-1)


def test_the_cosine_is_of_what_the_network_follows():
    """The whole mask's number is right, the windows' go twice as steeply the other way and count twice."""
    scalars, *_ = looked("iou", lambda value: value, lambda value: -2 * value)
    assert scalars["critic/cosine"] == pytest.approx(-1, abs=1e-5) and scalars["critic/spearman_predicted"] == pytest.approx(1)
