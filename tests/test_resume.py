"""Interrupted anywhere and started again by the same command, a run ends in the same bits, and logs each step once.

SCANFORGE_KILLS=25 SCANFORGE_TERMS=5 repeats the random part as often as the published figures were measured with.
"""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import cv2
import jax
import numpy as np
import pytest

from configs import dcgan32
from gan import losses
from tools import export_weights
from training import checkpoints, loop
from training.errors import ConfigError, RunError
from training.signals import Stop

ROOT = pathlib.Path(__file__).resolve().parents[1]
KILLS = int(os.environ.get("SCANFORGE_KILLS", "3"))
IN_SAVE = -(-KILLS // 5)  # of the kills, so many hit a checkpoint half-written
TERMS = int(os.environ.get("SCANFORGE_TERMS", "1"))


def tiny(scans, **train):
    config = dcgan32.get_config("tiny").unlock()
    config.data.source = f"folder:{scans}"
    config.eval.num_images = 4
    config.train.update(train)
    return config.lock()


def steps_logged(workdir):
    return [json.loads(line)["step"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def values_logged(workdir):
    lines = (json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name != "time"} for line in lines]


@pytest.fixture(scope="module")
def twin(scans, tmp_path_factory):
    """The uninterrupted run, 8 steps."""
    workdir = tmp_path_factory.mktemp("twin")
    return workdir, loop.train(tiny(scans), workdir, Stop())


def test_an_uninterrupted_run_leaves_what_it_promises(twin, scans):
    workdir, status = twin
    assert status["state"] == "finished" and status["step"] == status["num_steps"] == 8
    assert steps_logged(workdir) == [2, 4, 6, 8] and checkpoints.steps(workdir) == [4, 8]
    assert sorted(p.name for p in (workdir / "samples").iterdir()) == [f"step_{s:08d}.png" for s in (0, 4, 8)]
    for name in ("config.json", "environment.json", "lineage.json", "normalisation.json", "evaluation.json", "report.html", "status.json"):
        assert (workdir / name).stat().st_size > 100
    assert not (workdir / "lock.json").exists()
    lineage = json.loads((workdir / "lineage.json").read_text())
    assert {scan["split"] for scan in lineage["scans"]} == {"train", "held_out", "test"} and len(lineage["scans"]) == 5
    again = loop.train(tiny(scans), workdir, Stop())
    assert again["state"] == "finished" and again["parameters_sha256"] == status["parameters_sha256"]


@pytest.mark.parametrize("stops", [(1,), (3, 5), (4, 7)])
def test_stopped_between_any_steps_it_ends_in_the_same_bits(twin, scans, tmp_path, monkeypatch, stops):
    for at in stops:
        stop = Stop()
        original = loop.logbook.Logbook.tick

        def tick(self, step, at=at, stop=stop, original=original):
            original(self, step)
            if step == at:
                stop.signal = signal.SIGTERM

        monkeypatch.setattr(loop.logbook.Logbook, "tick", tick)
        status = loop.train(tiny(scans), tmp_path, stop)
        assert status["state"] == "interrupted" and status["step"] == at == checkpoints.steps(tmp_path)[-1]
        monkeypatch.setattr(loop.logbook.Logbook, "tick", original)
    status = loop.train(tiny(scans), tmp_path, Stop())
    assert status["parameters_sha256"] == twin[1]["parameters_sha256"]
    assert values_logged(tmp_path) == values_logged(twin[0])


def test_damaged_newest_checkpoint_costs_steps_not_bits(twin, scans, tmp_path, capsys):
    loop.train(tiny(scans), tmp_path, Stop())
    array = max((tmp_path / "checkpoints" / "8" / "state").rglob("*"), key=lambda p: p.stat().st_size if p.is_file() else 0)
    content = bytearray(array.read_bytes())
    content[len(content) // 2] ^= 1
    array.write_bytes(content)
    status = loop.train(tiny(scans), tmp_path, Stop())
    assert f"checkpoint 8 is damaged: {array.resolve()}" in capsys.readouterr().out
    assert status["parameters_sha256"] == twin[1]["parameters_sha256"]
    assert values_logged(tmp_path) == values_logged(twin[0])


def test_a_changed_config_is_refused_with_a_diff_and_a_longer_run_is_not(scans, tmp_path):
    loop.train(tiny(scans, num_steps=4), tmp_path, Stop())
    with pytest.raises(ConfigError, match=r"(?s)1 field differs.*config.train.generator_rate: 0.0002 there, 0.001 now"):
        loop.train(tiny(scans, generator_rate=1e-3), tmp_path, Stop())
    assert loop.train(tiny(scans, log_every=4), tmp_path, Stop())["step"] == 8


def test_fewer_steps_than_were_trained_are_refused(twin, scans):
    workdir = twin[0]
    files = {name: (workdir / name).read_bytes() for name in ("status.json", "config.json", "metrics.jsonl", "lineage.json")}
    with pytest.raises(ConfigError, match=r"num_steps=4, but .* has come to step 8"):
        loop.train(tiny(scans, num_steps=4), workdir, Stop())
    assert files == {name: (workdir / name).read_bytes() for name in files}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_before_the_first_step_nothing_is_saved_and_the_same_command_begins(scans, tmp_path, number):
    process = start(tmp_path, scans)
    while process.poll() is None and not (tmp_path / "lineage.json").exists():
        time.sleep(0.002)
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + number and "Traceback" not in output, output
    assert checkpoints.steps(tmp_path) == [] and not (tmp_path / "lock.json").exists()
    assert loop.train(tiny(scans), tmp_path, Stop())["state"] == "finished"


def test_the_report_and_the_status_stand_while_it_runs(scans, tmp_path, monkeypatch):
    seen = []
    original = checkpoints.save

    def save(workdir, step, state, score):
        seen.append((step, json.loads((tmp_path / "status.json").read_text())["state"], (tmp_path / "report.html").exists()))
        return original(workdir, step, state, score)

    monkeypatch.setattr(checkpoints, "save", save)
    loop.train(tiny(scans, eval_every=2), tmp_path, Stop())
    assert {4, 8} <= {step for step, *_ in seen} <= {2, 4, 6, 8}  # and where a score is the best yet
    assert {tuple(rest) for step, *rest in seen if step >= 4} == {("running", True)}


def test_changed_scans_are_refused(twin, scans, tmp_path):
    loop.train(tiny(scans, num_steps=2, save_every=2), tmp_path, Stop())
    path = sorted(scans.iterdir())[0]
    before = path.read_bytes()
    cv2.imwrite(str(path), 255 - cv2.imread(str(path), -1))
    try:
        with pytest.raises(RunError, match="not those the run was begun with"):
            loop.train(tiny(scans, save_every=2), tmp_path, Stop())
    finally:
        path.write_bytes(before)


def test_nan_stops_before_it_is_saved_and_names_the_leaf(scans, tmp_path, monkeypatch):
    pair = losses.LOSSES["cross_entropy"]
    monkeypatch.setitem(losses.LOSSES, "cross_entropy", (pair[0], lambda real, generated: pair[1](real, generated) * float("nan")))
    with pytest.raises(RunError, match="step 2: .*generator/loss is nan"):
        loop.train(tiny(scans), tmp_path, Stop())
    assert checkpoints.steps(tmp_path) == []
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "failed"


def test_begun_from_another_runs_weights(twin, scans, tmp_path):
    config = tiny(scans, num_steps=2).copy_and_resolve_references().unlock()
    config.init_from = f"{twin[0]}@8"
    loop.train(config, tmp_path, Stop())
    upstream = json.loads((tmp_path / "lineage.json").read_text())["upstream"]
    assert upstream[0]["step"] == 8 and upstream[0]["sha256"] == twin[1]["parameters_sha256"]
    task = loop.method(config).make_task(config)
    source, _ = checkpoints.restore_for_inference(twin[0], task, "8")
    begun = task.init(jax.random.key(0), checkpoints.restore_arrays(twin[0], "8"))
    jax.tree.map(np.testing.assert_array_equal, begun.generator.params, source.generator.params)
    averaged = checkpoints.restore_arrays(twin[0], "8")
    averaged |= {name.replace("generator/params", "average"): 2 * array for name, array in averaged.items() if "r/params" in name}
    begun = task.init(jax.random.key(0), averaged)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, 2 * b), begun.generator.params, source.generator.params)


def test_begun_from_a_file_of_weights_as_from_the_workdir(twin, scans, tmp_path):
    file = tmp_path / "weights.npz"
    assert export_weights.main(["", f"--workdir={twin[0]}", f"--output={file}"]) == 0
    config = tiny(scans, num_steps=2).copy_and_resolve_references().unlock()
    config.init_from = str(twin[0])
    begun = [loop.train(config, tmp_path / "workdir", Stop())["parameters_sha256"]]
    config.init_from = str(file)
    begun.append(loop.train(config, tmp_path / "file", Stop())["parameters_sha256"])
    assert begun[0] == begun[1]
    upstream = json.loads((tmp_path / "file" / "lineage.json").read_text())["upstream"][0]
    assert len(upstream["scans"]) == 5 and upstream["source"] == str(file)
    whole = file.read_bytes()
    np.save(tmp_path / "array.npy", np.zeros(3))
    file.write_bytes(whole[:1000])
    for wrong in (str(file), str(tmp_path / "absent.npz"), f"{twin[0]}@7", str(tmp_path / "array.npy")):
        config.init_from = wrong
        with pytest.raises((ConfigError, RunError), match="config.init_from="):
            loop.train(config, tmp_path / "wrong", Stop())


def command(workdir, scans):
    """Saves every second step, so that many of the random moments fall into a save."""
    flags = [
        f"--config.data.source=folder:{scans}",
        "--config.train.num_steps=60",
        "--config.train.save_every=2",
        "--config.eval.num_images=4",
    ]
    return [sys.executable, "main.py", "--config=configs/dcgan32.py:tiny", f"--workdir={workdir}", *flags]


def start(workdir, scans):
    return subprocess.Popen(command(workdir, scans), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def begun(workdir, process, timeout=120):
    """Waits until the process is in its loop: a new line in the log."""
    log = workdir / "metrics.jsonl"
    before = log.stat().st_size if log.exists() else 0
    end = time.monotonic() + timeout
    while process.poll() is None and time.monotonic() < end:
        if log.exists() and log.stat().st_size > before:
            return
        time.sleep(0.002)


def saving(workdir, process, left, timeout=120):
    """Waits until a checkpoint is being written other than those left half-written before."""
    end = time.monotonic() + timeout
    while process.poll() is None and time.monotonic() < end and not set((workdir / "checkpoints").glob("writing.*")) - left:
        pass


def test_killed_at_random_moments_it_ends_in_the_same_bits(scans, tmp_path, capsys):
    whole = subprocess.run(command(tmp_path / "twin", scans), cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    wanted = json.loads((tmp_path / "twin" / "status.json").read_text())["parameters_sha256"]
    dice, kinds = random.Random(0), ["kill"] * KILLS + ["term"] * TERMS
    dice.shuffle(kinds)
    done, in_save, runs = {"kill": 0, "term": 0}, 0, 0
    while kinds:
        workdir = tmp_path / f"run{runs}"
        runs += 1
        left = set()
        while True:  # until this run is finished; then another begins, until all signals are spent
            process = start(workdir, scans)
            if kinds:
                begun(workdir, process)
                aimed = kinds[-1] == "kill" and in_save < IN_SAVE
                saving(workdir, process, left) if aimed else time.sleep(dice.uniform(0, 1.0))
            if kinds and process.poll() is None:
                kind = kinds.pop()
                process.send_signal(signal.SIGKILL if kind == "kill" else signal.SIGTERM)
                output, _ = process.communicate(timeout=120)
                found = set((workdir / "checkpoints").glob("writing.*"))
                in_save += kind == "kill" and bool(found - left)
                left = found
                assert process.returncode == (-signal.SIGKILL if kind == "kill" else 143), output
                done[kind] += 1
                if kind == "term":
                    assert json.loads((workdir / "status.json").read_text())["state"] == "interrupted"
            else:
                output, _ = process.communicate(timeout=300)
                assert process.returncode == 0, output
                break
        assert json.loads((workdir / "status.json").read_text())["parameters_sha256"] == wanted
        assert steps_logged(workdir) == list(range(2, 61, 2))
        assert values_logged(workdir) == values_logged(tmp_path / "twin")
    assert done == {"kill": KILLS, "term": TERMS} and in_save >= IN_SAVE
    with capsys.disabled():
        print(f"\n{done['kill']} SIGKILLs ({in_save} in a save) and {done['term']} SIGTERMs over {runs} runs: same SHA-256 each time")


def test_a_second_start_in_the_same_workdir_is_refused(scans, tmp_path):
    from training.lock import workdir_lock

    with workdir_lock(tmp_path), pytest.raises(RunError, match="lock"):
        loop.train(tiny(scans), tmp_path, Stop())
