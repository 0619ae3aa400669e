"""The chain killed by SIGKILL in and between its stages, and begun again by the same command, leaves what the uninterrupted twin leaves.

SCANFORGE_KILLS=10 kills at all ten points; the stages that train on scans are killed in tests/test_resume.py.
"""

import hashlib
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from configs import stm_database
from database import build, stages

ROOT = pathlib.Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("SCANFORGE_KILLS", "5"))
POINTS = (
    "stages/real.json",
    "real/train/images/*.png",
    "database/images/*.png",
    "stages/scores.json",
    "unet_database/checkpoints/*",
    "unet_database/status.json",
    "unet_real/metrics.jsonl",
    "stages/downstream.json",
    "downstream_database.png",
    "unet_database.safetensors",
)
"""What appears in this order; a moment after it has, the process is killed: as a stage begins, in a folder of images, in a training."""
RESULTS = ("scores.json", "downstream.json", "downstream_database.png", "downstream_real.png", "unet_database.safetensors")


def started(workdir):
    command = [sys.executable, "main.py", "--config=configs/stm_database.py:tiny", f"--workdir={workdir}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finished(workdir):
    with started(workdir) as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("twin") / "w"
    finished(workdir)
    return workdir


def hashes(workdir):
    """File -> SHA-256 of the database, the real crops and all results; stage -> SHA-256 of what it left."""
    files = [path for name in ("database", "real") for path in (workdir / name).rglob("*") if path.is_file()]
    files += [workdir / name for name in RESULTS]
    found = {str(path.relative_to(workdir)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return found | {path.stem: stages.read(workdir, path.stem)["outputs"] for path in (workdir / "stages").glob("*.json")}


def test_killed_in_later_stages_it_leaves_what_its_twin_leaves(twin, tmp_path):
    workdir, draw, killed = tmp_path / "w", random.Random(0), []
    shutil.copytree(twin, workdir)
    for stage in build.planned(build.begun(stm_database.get_config("tiny"), workdir))[3:]:
        stages.remove(stage, workdir)
    assert not (workdir / "database").exists() and not (workdir / "unet_real").exists()
    for point in sorted(draw.sample(POINTS, min(KILLS, len(POINTS))), key=POINTS.index):
        with started(workdir) as process:
            while process.poll() is None and not any(workdir.glob(point)):
                time.sleep(0.002)
            time.sleep(draw.random() * 0.1)
            process.kill()
            output, _ = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), output
        killed += [point] * (process.returncode != 0)
    assert len(killed) >= min(KILLS, len(POINTS)) - 1, killed
    finished(workdir)
    assert hashes(workdir) == hashes(twin) and (workdir / "report.html").exists()
