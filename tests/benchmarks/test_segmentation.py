"""`python -m benchmarks.segmentation` on tiny frames, with the peer where PyTorch is installed."""

import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import segmentation, timing

TORCH = importlib.util.find_spec("torch") is not None


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    """No figure counts here; a compiled PyTorch network would take minutes of a C++ compiler and is tried by hand."""
    monkeypatch.setattr(timing, "num_cores", lambda: 1)
    monkeypatch.setattr(
        segmentation.forecast, "matmul_rate", lambda size, repeats, dtype: {"float32": 1e9, "bfloat16": 4e9}[jnp.dtype(dtype).name]
    )
    if TORCH:
        monkeypatch.setattr("torch.compile", _refuse)
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def _refuse(net):
    def forward(image):
        raise RuntimeError("no compiler\nand more words")

    return forward


def test_a_row_is_timed_beside_the_peer_where_there_is_one(tmp_path, capsys):
    path = tmp_path / "figures.json"
    assert segmentation.main(["--rows=32x16/4", "--rounds=2", f"--json={path}", *["--peer"] * TORCH]) == 0
    figures = json.loads(path.read_text())
    (row,) = figures["latency"]
    assert (row["width"], row["height"], row["base"], row["dtype"]) == (32, 16, 4, "float32")
    assert row["share_of_peak"] == pytest.approx(1e3 * row["gflop"] / row["parts"]["device"]["median_ms"])
    assert len(row["ratios"]) == 4 * TORCH and row["parts"].keys() >= {"device", "end to end"}
    assert len(row["notes"]) == 4 * TORCH and all("no compiler)" in note for note in row["notes"])
    assert capsys.readouterr().out.count("peer/ours") == 4 * TORCH


def test_each_type_is_held_against_its_own_peak(tmp_path, monkeypatch):
    monkeypatch.setattr(segmentation.devices, "on_cpu", lambda: False)
    assert segmentation.main(["--rows=16x16/2", "--rounds=1", f"--json={tmp_path / 'figures.json'}"]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["peak_gflop_per_second"] == {"float32": 1.0, "bfloat16": 4.0}
    for row, peak in zip(figures["latency"], (1.0, 4.0), strict=True):
        assert row["share_of_peak"] == pytest.approx(1e3 * row["gflop"] / row["parts"]["device"]["median_ms"] / peak)


def test_the_training_step_of_the_peer_begins_with_the_same_loss():
    pytest.importorskip("torch")
    figures = segmentation.training(2, True, base=4, batch=2, side=32)
    assert figures["ratios"].keys() == {"step, PyTorch eager", "step, PyTorch eager, channels last"}


def test_other_outputs_are_not_compared():
    with pytest.raises(SystemExit, match="speeds of different things"):
        segmentation.agree(np.ones(3), np.array([1, 1, 1.01]))
    segmentation.agree(np.ones(3), np.array([1, 1, 1.0001]))


@pytest.mark.parametrize("text", ["512", "512x512/0", "500x512/16", "512x512/16,"])
def test_a_row_that_cannot_be_is_one_short_error(text, capsys):
    assert segmentation.main([f"--rows={text}"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
