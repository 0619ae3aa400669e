"""Two processes train one state: the same samples as one process, one of them writes, one signal stops both, and both go on."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
STEPS = 30


def start(workdir, process=None, port=0, steps=STEPS):
    flags = [flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag]
    environment = os.environ | {"XLA_FLAGS": " ".join(flags)}
    words = [sys.executable, "main.py", "--config=configs/dcgan32.py:tiny", f"--workdir={workdir}", f"--config.train.num_steps={steps}"]
    words += ["--config.model.kernel_size=5", "--config.eval.num_images=4"]
    if process is not None:
        words.append("--distributed")
        environment |= {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(process)}
    return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def pair(workdir):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [start(workdir, process, port) for process in (0, 1)]


def ended(processes, timeout=240):
    try:
        outputs = [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], outputs


def losses(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines], np.array([line["generator/loss"] for line in lines])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("alone")
    codes, outputs = ended([start(workdir)])
    assert codes == [0], outputs
    return workdir


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    codes, outputs = ended(pair(workdir))
    assert codes == [0, 0], outputs
    return workdir, outputs


def test_two_processes_train_as_one_and_only_the_first_writes(alone, whole):
    workdir, outputs = whole
    assert "2 processes" in outputs[0] and "dcgan32" not in outputs[1]
    steps, together = losses(workdir)
    assert steps == losses(alone)[0]
    np.testing.assert_allclose(together[:2], losses(alone)[1][:2], rtol=1e-5)
    assert json.loads((workdir / "status.json").read_text())["state"] == "finished"
    assert (workdir / "report.html").exists() and not (workdir / "lock.json").exists()


def test_a_signal_to_one_stops_both_and_they_end_in_the_same_bits(whole, tmp_path):
    processes, log = pair(tmp_path), tmp_path / "metrics.jsonl"
    while not (log.exists() and log.stat().st_size) and all(process.poll() is None for process in processes):
        time.sleep(0.01)
    processes[1].send_signal(signal.SIGTERM)
    codes, outputs = ended(processes)
    assert codes == [143, 143], outputs
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["state"] == "interrupted" and 0 < status["step"] < STEPS
    codes, outputs = ended(pair(tmp_path))
    assert codes == [0, 0], outputs
    hashes = [json.loads((folder / "status.json").read_text())["parameters_sha256"] for folder in (whole[0], tmp_path)]
    assert hashes[0] == hashes[1]
    assert losses(tmp_path)[0] == list(range(2, STEPS + 1, 2))
