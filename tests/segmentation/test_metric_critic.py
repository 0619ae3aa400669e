"""The step of both networks against the gradients of the losses written out, the warm-up, and the fields that cannot be."""

import json

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import main
from configs import unet_gan_isbi2012
from microscopy.formats import read_image
from segmentation import exported, losses, maps, metric_critic, supervised
from segmentation.damage import damage
from training.errors import ConfigError


def config(**train):
    c = unet_gan_isbi2012.get_config("tiny").unlock()
    c.train.update({"augment": "none", "critic_warmup": 0, "ema_decay": 0.0, **train})
    c.model.norm = "none"
    return c


def batch():
    image = jax.random.normal(jax.random.key(3), (4, 32, 32, 1)).clip(-1, 1)
    return {"image": image, "mask": (image[..., 0] > 0.2).astype(jnp.int32)}


def direction(before, after):
    return np.concatenate([np.ravel(b - a) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)])


@pytest.mark.parametrize(("quality", "weight"), [("iou_squared", 0.0), ("module", 0.5), ("truth", 0.0)])
def test_both_networks_go_down_their_own_losses(quality, weight):
    c = config(quality=quality, supervised_weight=weight)
    task, network, critic = metric_critic.make_task(c), metric_critic.make_network(c), metric_critic.make_critic(c)
    state, data, key = task.init(jax.random.key(0), None), batch(), jax.random.key(7)

    def predicted(params, data):
        return network.apply({"params": params}, data["image"], False)

    def judge(params, data, masks):
        return critic.apply({"params": params}, data["image"], masks[..., None], False)[0]

    def of_network(params, judging, data):
        made = predicted(params, data)
        said = judge(judging, data, maps.signs(made))
        error = {"iou_squared": 1 - said, "module": said, "truth": jax.nn.softplus(-said)}[quality].mean()
        return error + weight * supervised.LOSSES[c.train.loss](maps.class_logits(made), data["mask"], None, None)

    def of_critic(params, making, data):
        own, truth = maps.signs(predicted(making, data)), losses.to_signs(data["mask"])
        masks = [own, truth, damage(jax.random.split(key, 3)[2], truth, own)]
        said = jnp.concatenate([judge(params, data, one) for one in masks])
        if quality == "truth":
            real = jnp.repeat(jnp.array([0.0, 1.0, 0.0]), 4)
            return -(real * jax.nn.log_sigmoid(said) + (1 - real) * jax.nn.log_sigmoid(-said)).mean()
        return jnp.mean((said - jnp.concatenate([losses.QUALITIES[quality](one, truth) for one in masks])) ** 2)

    @jax.jit  # both networks and the data as arguments: what is constant in a program is computed slowly, as it is compiled
    def alone(network_params, critic_params, data):
        wanted = jax.grad(of_network)(network_params, critic_params, data)
        return wanted, *jax.value_and_grad(of_critic)(critic_params, network_params, data)

    after, scalars = jax.jit(task.train_step)(state, {}, data, key)
    of_networks, value, of_critics = alone(state.network.params, state.critic.params, data)
    assert float(scalars["critic/loss"]) == pytest.approx(float(value), rel=1e-4)
    for gradients, was, now in ((of_networks, state.network, after.network), (of_critics, state.critic, after.critic)):
        gradient = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradients)])
        sure = np.abs(gradient) > 1e-4 * np.abs(gradient).max()  # Adam's first step is minus the gradient's sign
        moved = direction(was.params, now.params)
        assert sure.mean() > 0.2 and np.mean(np.sign(moved[sure]) == -np.sign(gradient[sure])) > 0.99


def test_windows_teach_the_critic_and_lead_the_network_by_their_weight():
    data, key = batch(), jax.random.key(7)
    truth = losses.to_signs(data["mask"])
    c = config(quality="module", window_weight=0.5)
    task, network, critic = metric_critic.make_task(c), metric_critic.make_network(c), metric_critic.make_critic(c)
    state = task.init(jax.random.key(0), None)

    @jax.jit
    def judged(network_params, critic_params, data, truth):
        own = maps.signs(network.apply({"params": network_params}, data["image"], False))
        masks = jnp.concatenate([own, truth, damage(jax.random.split(key, 3)[2], truth, own)])
        image, truths = jnp.concatenate([data["image"]] * 3), jnp.concatenate([truth] * 3)
        return masks, truths, *critic.apply({"params": critic_params}, image, masks[..., None], False)

    masks, truths, said, windows = map(np.asarray, judged(state.network.params, state.critic.params, data, truth))
    wanted = np.abs(masks - truths)
    per_window = np.array(wanted).reshape(12, 8, 4, 8, 4).mean((2, 4))
    expected = np.mean((said - wanted.mean((1, 2))) ** 2) + 0.5 * np.mean((windows - per_window) ** 2)
    _, scalars = jax.jit(task.train_step)(state, {}, data, key)
    assert float(scalars["critic/loss"]) == pytest.approx(float(expected), rel=1e-4)
    assert float(scalars["network/predicted_error"]) == pytest.approx(float(said[:4].mean() + 0.5 * windows[:4].mean()), rel=1e-4)


def test_the_critic_alone_moves_while_it_warms_up():
    c = config(critic_warmup=2)
    task = metric_critic.make_task(c)
    step, state = jax.jit(task.train_step), task.init(jax.random.key(0), None)
    for number in range(3):
        after, _ = step(state, {}, batch(), jax.random.key(number))
        assert np.abs(direction(state.critic.params, after.critic.params)).max() > 0
        assert bool(np.abs(direction(state.network.params, after.network.params)).max() > 0) == (number == 2)
        state = after


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("train.quality", "dice", "config.train.quality='dice': choose module, squaring, percent, iou, iou_squared, truth"),
        ("model.critic_width", 0, "config.model.critic_width=0: 1 to 256"),
        ("train.supervised_weight", -1.0, "config.train.supervised_weight=-1.0"),
        ("train.window_weight", -1.0, "config.train.window_weight=-1.0"),
        ("model.critic_strided", 6, "config.data.height=32, width=32: multiples of 64 are needed for the critic's windows"),
        ("model.critic_depth", 6, "config.data.height=32, width=32: multiples of 64 are needed for the critic's windows"),
        ("train.loss", "focal", "config.train.loss='focal'"),
        ("eval.num_audited_steps", 0, "config.eval.num_audited_steps=0"),
    ],
)
def test_a_field_that_cannot_be_is_named(field, value, reason):
    c = config(window_weight=1.0)
    section, name = field.split(".")
    c[section][name] = value
    with pytest.raises(ConfigError, match=reason):
        metric_critic.make_task(c)


def test_a_run_of_it_predicts_and_its_export_says_the_same(scans, tmp_path):
    run, file, image = tmp_path / "run", tmp_path / "m.safetensors", read_image(scans / "scan0.png", max_pixels=10**4)
    (tmp_path / "masks").mkdir()
    for scan in scans.iterdir():
        cv2.imwrite(str(tmp_path / "masks" / scan.name), np.where(read_image(scan, max_pixels=10**4) > 150, np.uint8(255), np.uint8(0)))
    steps = [f"--config.train.{name}=4" for name in ("num_steps", "eval_every", "preview_every", "save_every")]
    words = [
        *steps,
        "--config.eval.num_audited_steps=1",
        f"--config.data.source=folder:{scans}",
        f"--config.data.masks={tmp_path / 'masks'}",
    ]
    assert main.run(["main.py", "--config=configs/unet_gan_isbi2012.py:tiny", *words, f"--workdir={run}"]) == 0
    assert main.run(["main.py", "--mode=export", f"--workdir={run}", f"--output={file}"]) == 0
    for name, source in (("of_run", f"--workdir={run}"), ("of_file", f"--weights={file}")):
        assert main.run(["main.py", "--mode=predict", source, f"--input={scans / 'scan0.png'}", f"--output={tmp_path / name}"]) == 0
    found = {name: (tmp_path / name / "scan0_probability.tiff").read_bytes() for name in ("of_run", "of_file")}
    assert found["of_run"] == found["of_file"]
    probability = read_image(tmp_path / "of_file" / "scan0_probability.tiff", max_pixels=10**4)
    np.testing.assert_array_equal(exported.load_predictor(file)(image), probability)
    mask = read_image(tmp_path / "of_run" / "scan0_mask.png", max_pixels=10**4)
    assert probability.shape == image.shape and probability.std() > 0
    np.testing.assert_array_equal(mask, np.where(probability > 0.5, 255, 0))
    assert json.loads((tmp_path / "of_run" / "prediction.json").read_text())["step"] == 4
