"""The converter's file begins a run; what it says when it cannot."""

import ast
import re

import jax
import numpy as np
import pytest

from superres.networks import Generator
from tests.superres import published
from tools import convert_srgan
from training import weights


@pytest.fixture
def state(tmp_path):
    """Returns made-up published weights, and where they are stored."""
    made = published.state_dict()
    np.savez(tmp_path / "netG.npz", **made)
    return made, tmp_path / "netG.npz"


def convert(*words):
    return convert_srgan.main(["convert_srgan", *map(str, words)])


@pytest.mark.parametrize("channels", [1, 3])
def test_the_printed_fields_and_the_file_make_the_published_network(tmp_path, state, capsys, channels):
    output = tmp_path / "out.npz"
    assert convert(f"--weights={state[1]}", f"--output={output}", f"--channels={channels}") == 0
    printed = capsys.readouterr().out
    assert f"--config.init_from={output}" in printed and f"--config.data.channels={channels}" in printed
    fields = dict(re.findall(r"--config\.model\.(\w+)=(\S+)", printed))
    values = {name: value if name in ("norm", "output") else ast.literal_eval(value) for name, value in fields.items()}
    network = Generator(channels=channels, **values)
    unit = np.random.default_rng(0).uniform(0, 1, (6, 6, 1))
    image = np.float32(2 * unit - 1).repeat(channels, -1)[None]
    fresh = jax.eval_shape(lambda: network.init(jax.random.key(0), image, False))
    arrays, upstream = weights.read(str(output))
    variables = {name: weights.take(arrays, f"generator/{short}", fresh[name]) for name, short in NAMES.items()}
    assert len(jax.tree.leaves(variables)) == len(arrays) and upstream["scans"] == []
    found = (network.apply(variables, image, False)[0] + 1) / 2
    expected = published.forward(state[0], unit.repeat(3, -1))
    np.testing.assert_allclose(found, expected if channels == 3 else expected.mean(-1, keepdims=True), atol=1e-5)


NAMES = {"params": "params", "batch_stats": "stats"}


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["--output=o.npz"], 2, "--weights is missing"),
        (["--weights=w"], 2, "--output is missing"),
        (["--weights=w", "--output=o.pth"], 2, "ends in .npz"),
        (["--weights=absent", "--output=o.npz"], 1, "No such file or directory; name a state dict"),
        (["--weights=w", "--output=o.npz", "--channels=2"], 2, "channels"),
        (["--weights={state}", "--output={folder}/none/o.npz"], 1, "cannot be written"),
        (["--weights={other}", "--output={folder}/o.npz"], 1, "0 residual blocks"),
    ],
)
def test_wrong_commands_give_one_short_error_and_write_nothing(tmp_path, state, capsys, words, code, reason):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    places = {"state": state[1], "folder": tmp_path, "other": tmp_path / "other.npz"}
    assert convert(*(word.format(**places) for word in words)) == code
    message = capsys.readouterr().err
    assert reason in message and message.count("\n") <= 5
    assert not (tmp_path / "o.npz").exists()
