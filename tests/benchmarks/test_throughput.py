"""`python -m benchmarks.throughput` end to end on tiny networks, with the peer where PyTorch is installed."""

import importlib.util
import json
import sys

import jax
import numpy as np
import pytest

from benchmarks import layers, throughput, timing
from configs import dcgan32
from training import devices, loop

# ml_collections reads config files by a method that Python has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

TORCH = importlib.util.find_spec("torch") is not None


def measured(folder, *words):
    """Returns what the command with --json leaves."""
    path = folder / "figures.json"
    argv = ["throughput", "--config=configs/dcgan32.py:tiny", "--config.data.num_simulated=3", "--steps=2", f"--json={path}", *words]
    argv.append("--config.model.kernel_size=5")  # what `step_flops` counts
    assert throughput.main(argv) == 0
    return json.loads(path.read_text())


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    """No figure counts here: programs are compiled in a third of the time, and PyTorch's threads do not wait for each other."""
    monkeypatch.setattr(timing, "num_cores", lambda: 1)
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def test_training_is_timed_in_parts_beside_the_peer_where_there_is_one(tmp_path, capsys):
    figures = measured(tmp_path, "--what=train", *["--peer"] * TORCH)
    assert figures["num_devices"] == (1 if TORCH else 2) and figures["num_rounds"] == 3 and figures["steps_per_call"] == 1
    parts = figures["parts"]
    assert all(0 < part["min_ms"] <= part["median_ms"] <= part["max_ms"] for part in parts.values())
    assert figures["images_per_second"] == pytest.approx(8e3 / parts["step"]["median_ms"])
    assert figures["flops_per_second"] == pytest.approx(1e3 * figures["flops"] / parts["step"]["median_ms"])
    assert 0.9 < figures["flops"] / step_flops(dcgan32.get_config("tiny")) < 2.0
    assert figures["data_share"] < 1 and figures["compile_seconds"] > 0
    peers = parts.keys() - {"step", "fixed batch", "sample"}
    assert peers == figures["ratios"].keys() and len(peers) == 4 * TORCH
    printed = capsys.readouterr().out
    assert "% of a step is data" in printed and printed.count("peer/ours") == 4 * TORCH
    assert figures["config"]["name"] == "configs/dcgan32.py" and figures["packages"]["jax"] == jax.__version__


def step_flops(config) -> float:
    """Returns the arithmetic of a step's convolutions by hand: twice the multiply-adds of each pass, borders counted whole."""
    sizes = [32 // 2**block for block in range(4)]
    widths = [1, 4, 8, 16, 32]
    maps = [2 * 25 * (size // 2) ** 2 * a * b for size, a, b in zip(sizes, widths, widths[1:], strict=False)]
    first, whole = maps[0], sum(maps)
    generator = 3 * whole
    real = 3 * whole - first  # the gradient with respect to the image is not needed
    generated = 4 * whole - first  # forward, one weight gradient, two pulled back: the losses differ
    return config.train.batch_size * (generator + real + generated)


def test_generation_is_timed_with_and_without_files(tmp_path):
    figures = measured(tmp_path, "--what=generate", *["--peer"] * TORCH)
    assert figures["chunk"] == 64 and figures["num_written"] == 128
    assert figures["images_per_second"] == pytest.approx(64e3 / figures["parts"]["chunk"]["median_ms"])
    assert figures["images_per_second_png"] > 0
    assert len(figures["ratios"]) == 2 * TORCH


def test_layers_have_a_line_each(tmp_path, monkeypatch):
    monkeypatch.setattr(layers, "BLOCK_SECONDS", 0.0)
    chosen = [layer for layer in layers.layers(dcgan32.get_config("tiny")) if layer.name.endswith(("dense", "down 1", "norm 1", "up 2"))]
    monkeypatch.setattr(layers, "layers", lambda config: chosen)
    figures = measured(tmp_path, "--what=profile", "--steps=1", *["--peer"] * TORCH)
    rows = figures["layers"]
    assert [row["layer"].partition(" ")[2] for row in rows] == ["dense", "norm 1", "up 2", "down 1", "norm 1"]
    for name in ("forward", "both", *(("peer forward", "peer both") if TORCH else ())):
        assert figures["sums"][name] == pytest.approx(sum(row[name] for row in rows)) and min(row[name] for row in rows) > 0


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_the_layers_are_those_of_the_networks(norm):
    config = dcgan32.get_config("tiny").unlock()
    config.model.discriminator_norm = norm
    found = layers.layers(config)
    init = loop.method(config).make_task(config).init
    state = jax.eval_shape(lambda key: init(key, None), jax.random.key(0))
    wanted = sorted(leaf.shape for leaf in jax.tree.leaves((state.generator.params, state.discriminator.params)))
    have = []
    for layer in found:
        module = layers.flax_layer(layer, config.model, np.float32)
        key = jax.random.key(0)
        shapes = jax.eval_shape(module.init, {"params": key, "dropout": key}, np.zeros((2, *layer.shape), np.float32))
        have += [leaf.shape for leaf in jax.tree.leaves(shapes["params"])]
    assert sorted(have) == wanted


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--config=configs/NAME.py is missing"),
        (("--config=configs/dcgan32.py:tiny", "--what=predict"), "train|generate|profile"),
        (("--config=configs/dcgan32.py:tiny", "--config.train.bach_size=3"), "bach_size"),
        (("--config=configs/none.py",), "configs/none.py"),
        (("--config=configs/dcgan32.py:tiny", "--steps=0"), "--steps=0: 1 or more"),
        (("--config=configs/dcgan32.py:tiny", "steps=3"), "'steps=3' is not a flag"),
        (("--config=configs/dcgan32.py:tiny", "--config.train.batch_size=9"), "cannot be split over 2 devices"),
    ],
)
def test_wrong_flags_get_one_short_message(words, message, capsys):
    assert throughput.main(["throughput", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) <= 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("srgan", "--peer"), "--peer: benchmarks.throughput has none for config.task=superres.srgan.\npython -m benchmarks.superres"),
        (("srgan", "--what=generate"), "--what=generate: benchmarks.throughput has none for config.task=superres.srgan."),
        (("srgan_div2k", "--what=profile"), "--what=profile: benchmarks.throughput has none for config.task=superres.srgan."),
        (("unet", "--what=profile"), "config.task=segmentation.supervised.\npython -m benchmarks.segmentation measures"),
    ],
)
def test_what_a_method_has_not_is_refused_with_where_it_is_measured(words, message, capsys):
    name, flag = words
    assert throughput.main(["throughput", f"--config=configs/{name}.py:tiny", flag]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 2
    module = error.partition("python -m ")[2].split()[0]
    assert importlib.util.find_spec(module) is not None


@pytest.mark.parametrize("name", ["srgan_div2k", "unet"])
def test_training_is_timed_for_other_methods_stage_by_stage(name, tmp_path, capsys):
    path = tmp_path / "figures.json"
    words = ["--steps=1", f"--json={path}", "--config.data.num_simulated=3"]
    assert throughput.main(["throughput", f"--config=configs/{name}.py:tiny", *words]) == 0
    figures = json.loads(path.read_text())
    found = figures["stages"] if name == "srgan_div2k" else {"": figures}
    assert list(found) == (["pixels", "adversarial"] if name == "srgan_div2k" else [""])
    for one in found.values():
        assert one["images_per_second"] == pytest.approx(4e3 / one["parts"]["step"]["median_ms"]) and one["flops"] > 0
    printed = capsys.readouterr().out
    assert "base filters" not in printed and f"configs/{name}.py{' pixels' if len(found) > 1 else ''}: 32 x 32 px. " in printed


@pytest.mark.parametrize(("name", "what"), [("classifier", "train"), ("cwgan_cytology", "generate")])
def test_networks_of_classes_have_those_of_the_scans(name, what, monkeypatch, tmp_path):
    """The built-in cells are of four classes; a task is made for two until the scans are read."""
    seen, made = [], loop.for_scans
    monkeypatch.setattr(loop, "for_scans", lambda task, prepared: seen.append(prepared.classes) or made(task, prepared))
    words = ["--steps=1", f"--what={what}", f"--json={tmp_path / 'figures.json'}", "--config.data.source=cells"]
    assert throughput.main(["throughput", f"--config=configs/{name}.py:tiny", *words]) == 0
    assert [len(classes) for classes in seen] == [4]
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["images_per_second"] > 0 and (what == "train" or figures["num_written"] == 64)


@pytest.mark.parametrize("name", ["augmentation_gain_cytology", "stm_database"])
def test_stages_that_are_no_trainings_of_their_own_are_refused(name, capsys):
    assert throughput.main(["throughput", f"--config=configs/{name}.py:tiny"]) == 2
    error = capsys.readouterr().err
    assert "makes its trainings as it goes" in error and len(error.splitlines()) == 1


def test_help_lists_the_flags(capsys):
    assert throughput.main(["throughput", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "--what" in printed and "--[no]peer" in printed and "docs/performance.md" in printed


def test_a_peer_without_pytorch_is_refused(monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("benchmarks.torch_")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("benchmarks.torch_peer", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert throughput.main(["throughput", "--config=configs/dcgan32.py:tiny", "--peer"]) == 2
    assert "--peer needs PyTorch" in capsys.readouterr().err


def test_unwritable_json_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(throughput, "train", lambda *args: {})
    argv = ["throughput", "--config=configs/dcgan32.py:tiny", f"--json={tmp_path / 'absent' / 'x.json'}"]
    assert throughput.main(argv) == 1
    assert "--json=" in capsys.readouterr().err and devices.on_cpu()
