"""One-file models: bit for bit what the workdir gives, by the command line and in a program; damaged and hostile files told in short."""

import json
import os
import signal
import struct
import sys
import threading
import time
import types
from typing import Any

import cv2
import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

import main
from configs import dcgan
from metrics.safetensors_file import read_safetensors
from microscopy.normalisation import ValueMap
from microscopy.scan import DataError, Scan
from segmentation import exported, inference, prediction
from segmentation.networks import UNet
from training import checkpoints, lineage, weights
from training import workdir as workdirs
from training.errors import ConfigError, RunError
from training.prediction import Request
from training.task import Task

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.integers(0, 256, (40, 51), np.uint8)
VALUE_MAP = ValueMap(3.0, 250.0, "grey", (0.0, 0.0))


@flax.struct.dataclass
class State:
    step: jax.Array
    params: Any
    stats: Any


def make_network(config):
    return UNet(num_maps=1, base_width=config.model.base_width, depth=2, norm="batch")


def make_probability(config):
    network = make_network(config)
    return jax.jit(
        lambda params, stats, image: jax.nn.sigmoid(network.apply({"params": params, "batch_stats": stats}, image, False)[..., 0])
    )


def make_task(config):
    if not 1 <= config.model.base_width <= 64:
        raise ConfigError(f"config.model.base_width={config.model.base_width}: 1 to 64.")

    def init(key, imported):
        made = make_network(config).init(key, jnp.zeros((1, 16, 16, 1)), False)
        return State(jnp.int32(0), made["params"], jax.tree.map(lambda leaf: leaf + 0.1, made["batch_stats"]))

    return Task(frozen={}, init=init, train_step=None, settle=None, evaluate=None, preview=None)


METHOD = types.SimpleNamespace(
    make_network=make_network,
    make_probability=make_probability,
    make_task=make_task,
    inference=lambda state: (state.params, state.stats),
    predict=lambda config, workdir, request: prediction.predict(*exported.opened(config, workdir, request)),
    export=exported.write,
)


@pytest.fixture(autouse=True)
def method(monkeypatch, tmp_path_factory):
    """A method as small as can be in the place of the real one."""
    monkeypatch.setitem(sys.modules, "segmentation.supervised", METHOD)
    root = tmp_path_factory.getbasetemp() / "root"
    for name in ("segmentation/supervised.py", "gan/dcgan.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    monkeypatch.setattr(weights, "ROOT", root)


def config():
    data = dcgan.data(64)
    data.update({"crop": 64})
    fields = {"task": "segmentation.supervised", "seed": 0, "data": data, "model": {"base_width": 4}}
    return ml_collections.ConfigDict({**fields, "train": {"steps_per_call": 2}, "eval": {"min_area": 7}}).lock()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A workdir with one checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    workdirs.describe(folder, config(), VALUE_MAP)
    lineage.write(folder, {"train": [Scan("a", IMAGE, "5a" * 32, "a.png")], "held_out": [Scan("b", IMAGE, "7b" * 32)]}, [])
    checkpoints.save(folder, 6, make_task(config()).init(jax.random.key(3), None))
    return folder


@pytest.fixture(scope="module")
def model(run, tmp_path_factory):
    """The bytes of the workdir's file."""
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    patch = pytest.MonkeyPatch()
    patch.setitem(sys.modules, "segmentation.supervised", METHOD)
    exported.write(config(), run, Request("", str(path)))
    patch.undo()
    return path.read_bytes()


def test_a_file_gives_bit_for_bit_what_the_workdir_gives(run, model, tmp_path):
    (tmp_path / "m.safetensors").write_bytes(model)
    network, step = exported.of_workdir(config(), run)
    predict = exported.load_predictor(tmp_path / "m.safetensors")
    assert step == 6 and network.min_area == 7
    found = predict(IMAGE)
    assert found.shape == IMAGE.shape and found.dtype == np.float32 and found.std() > 0
    np.testing.assert_array_equal(found, inference.segment(network, Scan("a", IMAGE, "")).probability)
    np.testing.assert_array_equal(predict(np.repeat(IMAGE[..., None], 3, 2)), found)


def test_a_file_tells_no_place_of_the_machine_that_made_it(run, tmp_path):
    placed, path = config(), tmp_path / "m.safetensors"
    with placed.unlocked():
        placed.init_from = "/home/her/before@best"
        for name in ("masks", "labels", "select", "tfds_dir"):
            placed.data[name] = f"/home/her/{name}"
        placed.data.source = "folder:/home/her/scans of Anna"
    exported.write(placed, run, Request("", str(path)))
    assert b"/home" not in path.read_bytes() and b"Anna" not in path.read_bytes()
    assert exported.load(path)[0].min_area == 7


def test_the_command_line_exports_and_predicts_from_the_file_alone(run, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "a.png"), IMAGE)
    file, scans = tmp_path / "m.safetensors", f"--input={tmp_path / 'in'}"
    assert main.run(["main.py", "--mode=export", f"--workdir={run}", f"--output={file}"]) == 0
    assert "step 6 of" in capsys.readouterr().out
    for name, source in (("of_file", f"--weights={file}"), ("of_run", f"--workdir={run}")):
        assert main.run(["main.py", "--mode=predict", source, scans, f"--output={tmp_path / name}"]) == 0
    for suffix in (*prediction.SUFFIXES,):
        assert (tmp_path / "of_file" / f"a{suffix}").read_bytes() == (tmp_path / "of_run" / f"a{suffix}").read_bytes()
    assert (tmp_path / "of_file" / "particles.csv").read_bytes() == (tmp_path / "of_run" / "particles.csv").read_bytes()
    capsys.readouterr()
    for words, match in (
        ([f"--weights={file}", f"--workdir={run}"], "give one of them"),
        ([f"--weights={tmp_path / 'none'}"], "cannot be read (No such file"),
        ([f"--weights={tmp_path / 'in' / 'a.png'}"], "no model of --mode=export"),
    ):
        assert main.run(["main.py", "--mode=predict", *words, scans, "--output=x"]) in (1, 2)
        assert match in capsys.readouterr().err
    assert main.run(["main.py", "--mode=export", "--watch", f"--workdir={run}", f"--output={file}"]) == 2
    assert main.run(["main.py", "--mode=export", f"--workdir={run}", "--output=model.npz"]) == 2
    assert "--output=model.npz: the name of a .safetensors file" in capsys.readouterr().err


def test_a_watch_ends_with_130_on_ctrl_c_and_its_tables_are_whole(model, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "m.safetensors").write_bytes(model)
    cv2.imwrite(str(tmp_path / "in" / "a.png"), IMAGE)
    last = tmp_path / "out" / "a_particles.json"

    def interrupt():
        limit = time.monotonic() + 30
        while not last.exists() and time.monotonic() < limit:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    words = [f"--weights={tmp_path / 'm.safetensors'}", f"--input={tmp_path / 'in'}", f"--output={tmp_path / 'out'}"]
    assert main.run(["main.py", "--mode=predict", "--watch", *words]) == 130
    thread.join()
    assert "interrupted after 1 predictions" in capsys.readouterr().out
    assert (tmp_path / "out" / "images.csv").read_text().splitlines()[1].startswith("a,40,51,")


def test_the_file_holds_the_scans_hashes_and_no_paths_of_them(model):
    (length,) = struct.unpack_from("<Q", model)
    metadata = json.loads(model[8 : 8 + length])["__metadata__"]
    assert json.loads(metadata["scans"]) == [{"sha256": "5a" * 32, "split": "train"}, {"sha256": "7b" * 32, "split": "held_out"}]
    assert metadata["step"] == "6" and json.loads(metadata["value_map"])["high"] == 250.0 and b"a.png" not in model
    arrays = read_safetensors(model)
    assert {name.partition("/")[0] for name in arrays} == {"params", "stats"} and (8 + length) % 8 == 0
    assert all(array.dtype == np.float32 for array in arrays.values())


def changed(model, change):
    """The file with its header changed."""
    (length,) = struct.unpack_from("<Q", model)
    header = json.loads(model[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + model[8 + length :]


def edited(name, edit):
    """A change of one JSON text in the metadata."""

    def change(header):
        value = json.loads(header["__metadata__"][name])
        edit(value)
        header["__metadata__"][name] = json.dumps(value)

    return change


def renamed(header):
    header["params/last/kernl"] = header.pop("params/last/kernel")


BROKEN = {
    "no network's array": (renamed, "params/last/kernel is in the network alone"),
    "another shape": (lambda header: header["params/last/kernel"].update(shape=[1, 4]), "params/last/kernel is float32"),
    "a module of Python": (edited("config", lambda value: value.update(task="os.path")), "is of 'os.path', which is no method"),
    "a path": (edited("config", lambda value: value.update(task="../x.y")), "no method"),
    "no task": (edited("config", lambda value: value.update(task=7)), "no model"),
    "another room's task": (edited("config", lambda value: value.update(task="gan.dcgan")), "config.task='gan.dcgan': one of"),
    "out of all size": (edited("config", lambda value: value["model"].update(base_width=10**9)), "base_width=1000000000: 1 to 64"),
    "a wider network": (edited("config", lambda value: value["model"].update(base_width=8)), "is needed"),
    "no data": (edited("config", lambda value: value.pop("data")), "data"),
    "odd margins": (edited("config", lambda value: value["data"].update(margins=[-1, 0, 0, 0])), "config.data.margins"),
    "a map of no width": (edited("value_map", lambda value: value.update(high=3.0)), "value map is none"),
    "a map of text": (edited("value_map", lambda value: value.update(low="3")), "value map is none"),
    "another format": (lambda header: header["__metadata__"].update(format="something else"), "format is 'something else'"),
    "a step that is none": (lambda header: header["__metadata__"].update(step="six"), "format"),
    "no value map": (lambda header: header["__metadata__"].pop("value_map"), "value_map"),
    "no metadata": (lambda header: header.pop("__metadata__"), "no model"),
    "metadata that is no text": (lambda header: header["__metadata__"].update(step=6), "no model"),
    "damaged JSON": (lambda header: header["__metadata__"].update(config="{"), "no model"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_changed_file_is_told_in_one_line(name, model, tmp_path):
    change, match = BROKEN[name]
    (tmp_path / "m.safetensors").write_bytes(changed(model, change))
    with pytest.raises(RunError, match=rf"m.safetensors: .*{match}") as error:
        exported.load_predictor(tmp_path / "m.safetensors")
    assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 600


def test_a_truncated_file_and_weights_that_are_not_finite_are_told(model, tmp_path):
    path = tmp_path / "m.safetensors"
    for content in (b"", model[:5], model[:2000], model[:-1], b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(RunError, match="m.safetensors: "):
            exported.load_predictor(path)
    path.write_bytes(model[:-4] + struct.pack("<f", float("nan")))
    with pytest.raises(RunError, match="not finite"):
        exported.load_predictor(path)


@pytest.mark.parametrize(
    ("image", "options", "match"),
    [
        (IMAGE.astype(np.int64), {}, "int64"),
        (IMAGE[0], {}, r"\(h, w\) or \(h, w, c\)"),
        (np.full((4, 4), np.nan, np.float32), {}, "16 values are NaN"),
        (IMAGE, {"unit": "nm"}, "holds nm, the run was trained on grey"),
        (IMAGE, {"nm_per_pixel": -1.0}, "nm_per_pixel: -1.0"),
    ],
)
def test_an_image_of_another_kind_is_told(image, options, match, model, tmp_path):
    (tmp_path / "m.safetensors").write_bytes(model)
    with pytest.raises(DataError, match=match):
        exported.load_predictor(tmp_path / "m.safetensors")(image, **options)
