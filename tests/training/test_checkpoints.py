"""A checkpoint is whole and exact, or it is named and refused: 40 ways of damage, other networks, full disks, NaN."""

import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from training import checkpoints, devices, weights
from training.errors import ConfigError, RunError
from training.task import Net


def state(value: float):
    key = jax.random.key(int(value * 10))
    params = {"kernel": jax.random.normal(key, (40, 30)), "bias": jnp.full((7,), float(value))}
    return Net(params, {}, {"count": jnp.array(int(value), jnp.int32), "half": jnp.ones((5,), jnp.bfloat16) * value})


@pytest.fixture
def workdir(tmp_path):
    for step in (1, 2, 3):
        checkpoints.save(tmp_path, step, state(step))
    return tmp_path


def same(one, two):
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert [leaf.dtype for leaf in jax.tree.leaves(one)] == [leaf.dtype for leaf in jax.tree.leaves(two)]


def test_keeps_the_last_two_and_restores_bit_for_bit(workdir):
    assert checkpoints.steps(workdir) == [2, 3]
    same(checkpoints.restore(workdir, 3, state(0)), state(3))
    assert checkpoints.sha256(checkpoints.restore(workdir, 2, state(0))) == checkpoints.sha256(state(2)) != checkpoints.sha256(state(3))


def damages(folder: pathlib.Path):
    """Yields (what, action): every file truncated, emptied, zeroed, deleted and with bits flipped here and there."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = path.read_bytes()
        yield f"delete {path.name}", lambda p=path: p.unlink()
        if content:
            yield f"empty {path.name}", lambda p=path: p.write_bytes(b"")
            yield f"truncate {path.name}", lambda p=path, c=content: p.write_bytes(c[: len(c) // 2])
            yield f"zero {path.name}", lambda p=path, c=content: p.write_bytes(bytes(len(c)))
            for place in (0.1, 0.5, 0.95):
                yield f"flip {path.name} at {place}", lambda p=path, c=content, f=place: p.write_bytes(flipped(c, int(len(c) * f)))


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


def test_every_damage_falls_back_and_names_step_and_file(workdir):
    newest = workdir / "checkpoints" / "3"
    whole = workdir / "whole"
    shutil.copytree(newest, whole)
    count = 0
    for index in range(len(list(damages(newest)))):
        what, act = list(damages(newest))[index]
        act()
        notes = []
        found, step = checkpoints.restore_newest(workdir, state(0), notes.append)
        assert step == 2, f"{what}: damage not seen"
        same(found, state(2))
        assert len(notes) == 1 and "checkpoint 3 is damaged" in notes[0] and str(newest) in notes[0], what
        shutil.rmtree(workdir / "checkpoints" / "damaged.3")
        shutil.copytree(whole, newest)
        count += 1
    assert count >= 40
    assert checkpoints.restore_newest(workdir, state(0), print)[1] == 3


def test_all_damaged_is_an_error_never_a_fresh_start(workdir):
    for step in (2, 3):
        (workdir / "checkpoints" / str(step) / checkpoints.MANIFEST).write_bytes(b"{}")
    with pytest.raises(RunError, match=r"all checkpoints \(2, 3\) are damaged"):
        checkpoints.restore_newest(workdir, state(0), lambda note: None)


def test_none_is_a_fresh_start(tmp_path):
    assert checkpoints.restore_newest(tmp_path, state(0)) == (None, 0)
    with pytest.raises(RunError, match="no checkpoint there"):
        checkpoints.choose(tmp_path, "last")


def test_a_half_written_checkpoint_is_no_checkpoint(workdir):
    shutil.copytree(workdir / "checkpoints" / "3", workdir / "checkpoints" / "writing.4")
    assert checkpoints.restore_newest(workdir, state(0))[1] == 3


def test_another_network_is_a_config_error_naming_the_array(workdir):
    other = state(0).replace(params={"kernel": jnp.zeros((40, 31)), "bias": jnp.zeros((7,))})
    with pytest.raises(ConfigError, match="params/kernel"):
        checkpoints.restore(workdir, 3, other)
    cast = state(0).replace(opt_state={"count": jnp.array(0, jnp.int32), "half": jnp.ones((5,), jnp.float32)})
    with pytest.raises(ConfigError, match="opt_state/half"):  # Orbax alone would cast without a word
        checkpoints.restore(workdir, 3, cast)


def test_nan_is_never_saved_and_named(workdir):
    bad = state(4).replace(params={"kernel": jnp.zeros((40, 30)).at[3, 4].set(jnp.nan), "bias": jnp.zeros((7,))})
    with pytest.raises(RunError, match="step 4: params/kernel holds NaN"):
        checkpoints.save(workdir, 4, bad)
    assert checkpoints.steps(workdir) == [2, 3]


def test_a_disk_that_refuses_is_an_error_at_that_save_and_leaves_nothing(workdir, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.ocp.StandardCheckpointer, "save", refuse)
    with pytest.raises(RunError, match=r"(?s)step 4 could not be written: .*No space left.*kept: 2, 3"):
        checkpoints.save(workdir, 4, state(4))
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == ["2", "3"]


def test_too_little_space_is_said_at_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1_000_000))
    with pytest.raises(RunError, match="1 MB free, 50 MB needed"):
        checkpoints.check_space(tmp_path, state(1))


def test_restores_onto_another_number_of_devices(workdir):
    for count in (1, 2):
        mesh = devices.make_mesh(2, jax.devices()[:count])
        sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        like = jax.tree.map(lambda leaf, s=sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=s), state(0))
        found = checkpoints.restore(workdir, 3, like)
        assert all(len(leaf.sharding.device_set) == count for leaf in jax.tree.leaves(found))
        same(found, state(3))


def test_weights_are_taken_by_name(workdir):
    arrays = checkpoints.restore_arrays(workdir, "3")
    taken = weights.take(arrays, "params", state(0).params)
    same(taken, state(3).params)
    with pytest.raises(ConfigError, match="params/bias is .7,. there and .8,. here"):
        weights.take(arrays, "params", {"bias": jnp.zeros(8)})


def test_the_manifest_names_what_the_checkpoint_holds(workdir):
    manifest = json.loads((workdir / "checkpoints" / "3" / checkpoints.MANIFEST).read_text())["manifest"]
    assert manifest["arrays"]["opt_state/half"] == ["bfloat16", [5]] and manifest["step"] == 3
