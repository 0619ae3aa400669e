"""Every method, interrupted and started again by the same command, ends in the same bits; so do runs over stages."""

import importlib
import json
import signal

import pytest

from studies import stages
from tests.classification.folders import striped
from training import loop
from training.signals import Stop


def tiny(name, **train):
    config = importlib.import_module(f"configs.{name}").get_config("tiny").unlock()
    config.train.update({"eval_every": config.train.num_steps, "preview_every": config.train.num_steps, **train})
    config.eval.num_images = 4
    if name.startswith("unet"):
        config.model.depth = 1
    if name == "dcgan32":
        config.data.label_field = "distance"
    if name.startswith("unet_gan"):
        config.model.update({"critic_depth": 1, "critic_strided": 1})
        config.eval.num_audited_steps = 1
    return config.lock()


def on_folder(config, folder):
    config = config.copy_and_resolve_references().unlock()
    config.data.source = f"folder:{folder}"
    return config.lock()


def logged(workdir):
    lines = (json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name != "time"} for line in lines]


@pytest.fixture
def stopping(monkeypatch):
    """Returns stopping(at): a Stop that is signalled in the step `at` (the `call`th time that step is reached)."""
    original = loop.logbook.Logbook.tick

    def make(at, call=1):
        stop, met = Stop(), [0]

        def tick(self, step):
            original(self, step)
            met[0] += step == at
            if step == at and met[0] == call:
                stop.signal = signal.SIGTERM

        monkeypatch.setattr(loop.logbook.Logbook, "tick", tick)
        return stop

    return make


METHODS = {
    "dcgan32": {"augment": ("colour", "translation"), "ema_decay": 0.9},
    "classifier": {"ema_decay": 0.9},
    "srgan": {"phase": "adversarial", "ema_decay": 0.9},
    "unet": {"augment": "strong"},
    "unet_gan_isbi2012": {"augment": "light", "critic_warmup": 2, "supervised_weight": 0.5},
}


@pytest.mark.parametrize("name", METHODS)
def test_a_stopped_run_ends_in_the_same_bits(name, tmp_path, stopping):
    config = tiny(name, **METHODS[name])
    if name == "classifier":
        config = on_folder(config, striped(tmp_path / "scans", 6))
    whole = loop.train(config, tmp_path / "whole", Stop())
    assert loop.train(config, tmp_path / "parts", stopping(5))["step"] == 5
    status = loop.train(config, tmp_path / "parts", Stop())
    assert status["state"] == "finished" and status["parameters_sha256"] == whole["parameters_sha256"]
    assert logged(tmp_path / "parts") == logged(tmp_path / "whole")


def test_stages_stopped_in_the_second_end_in_the_same_bits(tmp_path, stopping):
    config = importlib.import_module("configs.srgan_div2k").get_config("tiny")
    status = {}
    for folder in (tmp_path / "whole", tmp_path / "parts"):
        if folder.name == "parts":
            stages.run(config, folder, stopping(3, call=2))
        stages.run(config, folder, Stop())
        found = [json.loads((folder / name / "status.json").read_text()) for name in config.order]
        status[folder.name] = [(one["state"], one["step"], one["parameters_sha256"]) for one in found]
    assert status["whole"] == status["parts"] and all(state == "finished" for state, *_ in status["whole"])
