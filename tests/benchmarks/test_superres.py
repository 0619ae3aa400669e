"""`python -m benchmarks.superres` on tiny networks, with the peer where PyTorch is installed."""

import importlib.util
import json

import jax
import pytest

from benchmarks import superres, timing

# ml_collections reads config files by a method that Python has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

TORCH = importlib.util.find_spec("torch") is not None


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    """No figure counts here; a compiled PyTorch network would take minutes of a C++ compiler and is tried by hand."""
    monkeypatch.setattr(timing, "num_cores", lambda: 1)
    if TORCH:
        monkeypatch.setattr("torch.compile", _refuse)
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def _refuse(net):
    def forward(image):
        raise RuntimeError("no compiler\nand more words")

    forward.train = net.train
    forward.parameters = net.parameters
    return forward


def measured(folder, *words):
    """Returns what the command with --json leaves."""
    path = folder / "figures.json"
    argv = ["superres", "--config=configs/srgan.py:tiny", "--rounds=2", f"--json={path}", *words, *["--peer"] * TORCH]
    assert superres.main(argv) == 0
    return json.loads(path.read_text())


def test_the_forward_pass_agrees_with_the_peers_and_is_timed(tmp_path):
    figures = measured(tmp_path, "--what=forward", "--batches=1")
    (row,) = figures["rows"]
    assert row["images_per_second"] == pytest.approx(1e3 / row["parts"]["forward"]["median_ms"]) and row["gflop"] > 0
    assert len(row["ratios"]) == 2 * TORCH and all("no compiler)" in note for note in row["notes"])


def test_the_training_step_begins_with_the_peers_loss_and_is_timed(tmp_path):
    figures = measured(tmp_path, "--what=train")
    (row,) = figures["rows"]
    assert row["batch_size"] == 4 and not row["content"] and row["parts"]["step"]["median_ms"] > 0
    assert len(row["ratios"]) == 2 * TORCH and len(row["notes"]) == 2 * TORCH
    assert figures["config"]["train"]["phase"] == "adversarial"


@pytest.mark.parametrize("word", ["--batches=1,x", "--rounds=0"])
def test_what_cannot_be_is_one_short_error(word, capsys):
    assert superres.main(["superres", "--config=configs/srgan.py:tiny", word]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
