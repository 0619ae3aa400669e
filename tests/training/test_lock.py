import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from training import lock
from training.errors import RunError
from training.lock import workdir_lock

HOLD = """
import sys, time
from training.lock import workdir_lock
with workdir_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""
FORK = """
import os, pathlib, sys
from training.lock import workdir_lock
with workdir_lock(sys.argv[1]):
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        print(sorted(os.listdir(sys.argv[1])))
"""
ENVIRONMENT = os.environ | {"PYTHONPATH": os.getcwd(), "PYTHONDONTWRITEBYTECODE": "1"}


@contextlib.contextmanager
def holder(workdir):
    """A real process that holds the lock until it is killed."""
    command = [sys.executable, "-c", HOLD, str(workdir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def foreign(workdir, age, **changes):
    """Writes the lock of a run on another host whose last heartbeat is `age` seconds old."""
    path = workdir / "lock.json"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 4242, "process_start": 1} | changes))
    os.utime(path, (time.time() - age,) * 2)
    return path


def own(**changes):
    """Lock content of this very process."""
    return lock._identity() | changes


def names(workdir):
    return sorted(path.name for path in workdir.iterdir())


def test_holds_names_the_holder_and_removes(tmp_path):
    workdir = tmp_path / "new" / "run"
    with workdir_lock(workdir):
        content = json.loads((workdir / "lock.json").read_text())
        assert (content["host"], content["pid"]) == (socket.gethostname(), os.getpid()) and names(workdir) == ["lock.json"]
        words = rf"in use by another run: pid {os.getpid()} on host {socket.gethostname()}, started .*, last heartbeat \d s ago"
        with pytest.raises(RunError, match=words) as caught:
            workdir_lock(workdir).__enter__()
        assert len(str(caught.value).splitlines()) <= 5 and "--workdir" in str(caught.value)
        assert names(workdir) == ["lock.json"] and json.loads((workdir / "lock.json").read_text()) == content
    assert names(workdir) == []


def test_removed_after_an_exception(tmp_path):
    with pytest.raises(KeyboardInterrupt), workdir_lock(tmp_path):
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_a_live_process_keeps_it_and_a_killed_one_loses_it(tmp_path, capsys):
    with holder(tmp_path) as process:
        with pytest.raises(RunError, match=f"pid {process.pid} on host"), workdir_lock(tmp_path):
            pass
        os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.2)  # not waited for: it is a zombie now, which still has a pid
        with workdir_lock(tmp_path):
            assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()
    assert f"note: took over {tmp_path}/lock.json of pid {process.pid}" in capsys.readouterr().err and names(tmp_path) == []


def test_a_reaped_process_loses_it(tmp_path, capsys):
    with holder(tmp_path) as process:
        pass
    assert process.returncode == -signal.SIGKILL and names(tmp_path) == ["lock.json"]
    with workdir_lock(tmp_path):
        pass
    assert "its process is gone" in capsys.readouterr().err


def test_the_same_pid_with_another_start_is_another_process(tmp_path, capsys):
    if lock._process_start(os.getpid()) is None:
        pytest.skip("no /proc here: start times are unknown")
    (tmp_path / "lock.json").write_text(json.dumps(own(process_start=own()["process_start"] - 1)))
    with workdir_lock(tmp_path):
        pass
    assert "its pid belongs to another process now" in capsys.readouterr().err


def test_without_proc_the_pid_alone_decides(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_process_start", lambda pid: None)
    (tmp_path / "lock.json").write_text(json.dumps(own(process_start=7)))
    with pytest.raises(RunError), workdir_lock(tmp_path):
        pass
    with holder(tmp_path / "other"):
        pass
    with workdir_lock(tmp_path / "other"):
        pass


def test_a_process_hidden_from_us_counts_as_alive(tmp_path, monkeypatch):
    (tmp_path / "lock.json").write_text(json.dumps(own(pid=4242, process_start=7)))
    real = lock._process_start
    monkeypatch.setattr(lock, "_process_start", lambda pid: None if pid == 4242 else real(pid))
    monkeypatch.setattr(lock.os, "kill", lambda pid, sign: (_ for _ in ()).throw(PermissionError()))
    with pytest.raises(RunError, match="pid 4242"), workdir_lock(tmp_path):
        pass


@pytest.mark.parametrize("changes", [{}, {"host": socket.gethostname(), "pid_namespace": "pid:[1]"}])
def test_elsewhere_only_the_heartbeat_counts(tmp_path, capsys, changes):
    path = foreign(tmp_path, 290, **changes)
    with pytest.raises(RunError, match=r"pid 4242 on host .*, last heartbeat 29[0-5] s ago"), workdir_lock(tmp_path):
        pass
    assert path.exists()
    foreign(tmp_path, 301, **changes)
    with workdir_lock(tmp_path):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert "its last heartbeat was 0:05:0" in capsys.readouterr().err and names(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\xff\x00", b"[]", b'{"host": 3, "pid": 5}', b'{"host": "a", "pid": -1}'])
def test_garbage_is_kept_while_fresh_and_taken_over_when_old(tmp_path, capsys, content):
    path = tmp_path / "lock.json"
    path.write_bytes(content)
    with pytest.raises(RunError, match="an unreadable holder") as caught, workdir_lock(tmp_path):
        pass
    assert path.read_bytes() == content and len(str(caught.value).splitlines()) <= 5
    os.utime(path, (time.time() - 301,) * 2)
    with workdir_lock(tmp_path):
        pass
    assert "took over" in capsys.readouterr().err


def test_heartbeat_renews_the_lock_but_never_another_ones(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.02)
    path = tmp_path / "lock.json"
    with workdir_lock(tmp_path):
        os.utime(path, (1, 1))
        wait_for(lambda: path.stat().st_mtime > 1)
        other = tmp_path / "other"
        other.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
        os.utime(other, (1, 1))
        os.replace(other, path)
        wait_for(lambda: "no longer ours" in capsys.readouterr().err)
        assert path.stat().st_mtime == 1
    assert json.loads(path.read_text())["host"] == "elsewhere"


def wait_for(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_a_fork_does_not_remove_its_parents_lock(tmp_path):
    command = [sys.executable, "-c", FORK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert done.stdout == "['lock.json']\n" and names(tmp_path) == []


def test_without_hard_links_the_lock_still_excludes(tmp_path, monkeypatch):
    monkeypatch.setattr(lock.os, "link", lambda *_: (_ for _ in ()).throw(OSError("Operation not supported")))
    with workdir_lock(tmp_path), pytest.raises(RunError, match=f"pid {os.getpid()}"), workdir_lock(tmp_path):
        pass
    assert names(tmp_path) == []


def test_a_lock_that_comes_to_life_under_the_taker_is_put_back(tmp_path, monkeypatch):
    """Without flock, another starter may exchange the stale lock between our look and our rename."""
    path, rename = foreign(tmp_path, 400), os.rename

    def exchanged(source, target):
        monkeypatch.setattr(lock.os, "rename", rename)
        path.unlink()
        path.write_text(json.dumps({"host": "quicker", "pid": 77}))
        rename(source, target)

    monkeypatch.setattr(lock.os, "rename", exchanged)
    with pytest.raises(RunError, match="pid 77 on host quicker"), workdir_lock(tmp_path):
        pass
    assert json.loads(path.read_text())["host"] == "quicker" and names(tmp_path) == ["lock.json"]


def test_a_folder_that_cannot_be_written_is_a_run_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"), workdir_lock(tmp_path / "file" / "run"):
        pass


RACE = """
import contextlib, pathlib, sys, time
from training import lock
from training.errors import RunError
folder, flock = pathlib.Path(sys.argv[1]), sys.argv[2]
if flock == "without":
    lock._one_at_a_time = lambda folder: contextlib.nullcontext()
for turn in range(int(sys.argv[3])):
    print("ready", flush=True)
    start = float(sys.stdin.readline())
    while time.time() < start:
        pass
    try:
        with lock.workdir_lock(folder / str(turn)):
            print("won", flush=True)
            sys.stdin.readline()
    except RunError as error:
        print("lost" if "in use by another run" in str(error) else error, flush=True)
        sys.stdin.readline()
"""


@pytest.mark.parametrize("flock", ["with", "without"])
def test_of_racing_starters_exactly_one_wins_a_stale_lock(tmp_path, flock):
    turns, starters = 25, 4
    command = [sys.executable, "-c", RACE, str(tmp_path), flock, str(turns)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": ENVIRONMENT}
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(subprocess.Popen(command, **pipes)) for _ in range(starters)]
        for turn in range(turns):
            assert [process.stdout.readline() for process in processes] == ["ready\n"] * starters
            (tmp_path / str(turn)).mkdir()
            if turn % 5:  # every fifth race is for a workdir without any lock
                foreign(tmp_path / str(turn), 400)
            say(processes, f"{time.time() + 0.01}\n")
            assert sorted(process.stdout.readline() for process in processes) == ["lost\n"] * (starters - 1) + ["won\n"]
            assert names(tmp_path / str(turn)) == ["lock.json"]
            say(processes, "on\n")


def say(processes, line):
    for process in processes:
        process.stdin.write(line)
        process.stdin.flush()
