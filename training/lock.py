"""One run per workdir: a lock file with host, pid and heartbeat that frees itself when its holder is gone."""

import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import socket
import sys
import threading
import uuid
from collections.abc import Iterator
from typing import Any

from training.errors import RunError

HEARTBEAT_SECONDS = 30.0
STALE_SECONDS = 300.0


@contextlib.contextmanager
def workdir_lock(workdir: str | os.PathLike) -> Iterator[None]:
    """`with workdir_lock(workdir):` holds WORKDIR/lock.json, whose mtime is renewed every 30 s, and removes it if still ours.

    Makes the workdir. A lock is stale, and is taken over with a note on stderr, when its mtime is older than 5 minutes
    or, on the same host, when its pid is gone or belongs to another process; of several starters one wins. Raises
    RunError that names host, pid, age and remedy where a live process holds it, and where the disk refuses.
    """
    path = pathlib.Path(workdir) / "lock.json"
    content = json.dumps(_identity(), indent=2).encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(path.parent):
            note = _acquire(path, content)
    except OSError as error:
        remedy = "Mend the permissions or choose another --workdir."
        raise RunError(f"{path} cannot be written: {error.strerror or error}.\n{remedy}") from error
    if note:
        print(f"note: {note}", file=sys.stderr)
    done = threading.Event()
    threading.Thread(target=_beat, args=(path, content, done), name="workdir lock", daemon=True).start()
    try:
        yield
    finally:
        done.set()
        with contextlib.suppress(OSError), _one_at_a_time(path.parent):
            if _is_ours(path, content):
                path.unlink()


def _identity() -> dict[str, Any]:
    """Who holds the lock. Containers may share a host name but not its processes, hence the pid namespace."""
    pid = os.getpid()
    identity = {"host": socket.gethostname(), "pid": pid, "process_start": _process_start(pid), "pid_namespace": _pid_namespace()}
    return identity | {"started": datetime.datetime.now().isoformat(" ", "seconds"), "token": uuid.uuid4().hex}


def _process_start(pid: int) -> int | None:
    """Returns the start of a running process in clock ticks since boot (proc(5), stat field 22), None where unknown."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])  # a zombie has ended, whatever its parent does


def _pid_namespace() -> str | None:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


@contextlib.contextmanager
def _one_at_a_time(folder: pathlib.Path) -> Iterator[None]:
    """Makes judging and exchanging the lock one action among the processes of a host, and of NFS where flock reaches."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # not every network file system can; `_clear` then guards alone
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _acquire(path: pathlib.Path, content: bytes) -> str:
    """Returns a note ("" where the workdir was free) once `path` holds `content`; raises RunError where another holds it."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(content)
        now = temporary.stat().st_mtime  # the file server's clock, which stamps the heartbeats too
        note = _clear(path, now)
        try:
            _create(path, temporary, content)
        except FileExistsError:
            raise RunError(_held(path, *_look(path), now)) from None
    finally:
        temporary.unlink(missing_ok=True)
    return note


def _create(path: pathlib.Path, temporary: pathlib.Path, content: bytes) -> None:
    """Creates `path` with its content in one action, only where nothing stands there (FileExistsError)."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # no hard links on FAT and some network mounts; a reader may then see the file empty for a moment
        with open(path, "xb") as file:
            file.write(content)


def _look(path: pathlib.Path) -> tuple[dict[str, Any], os.stat_result | None]:
    """Returns what the lock says ({} where unreadable) and its stat (None where there is no lock)."""
    try:
        with open(path, "rb") as file:
            status, content = os.fstat(file.fileno()), file.read(65536)
    except FileNotFoundError:
        return {}, None
    try:
        holder = json.loads(content)
    except ValueError:
        holder = {}
    sound = isinstance(holder, dict) and isinstance(holder.get("host"), str) and type(holder.get("pid")) is int and holder["pid"] > 0
    return (holder if sound else {}), status


def _clear(path: pathlib.Path, now: float) -> str:
    """Moves a stale lock out of the way and returns a note that says whose; "" where there is none; else RunError."""
    holder, status = _look(path)
    if status is None:
        return ""
    reason = _stale(holder, now - status.st_mtime)
    if not reason:
        raise RunError(_held(path, holder, status, now))
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.stale")
    with contextlib.suppress(FileNotFoundError):  # another starter was first: then creating decides
        os.rename(path, aside)
        moved = aside.stat()
        if (moved.st_ino, moved.st_mtime_ns) != (status.st_ino, status.st_mtime_ns):  # between look and rename it came to life
            os.rename(aside, path)
            raise RunError(_held(path, *_look(path), now))
        aside.unlink()
    return f"took over {path} of {_who(holder)}: {reason}"


def _stale(holder: dict[str, Any], age: float) -> str:
    """Returns why nobody holds this lock any more, "" where somebody may."""
    if age > STALE_SECONDS:
        return f"its last heartbeat was {datetime.timedelta(seconds=round(age))} ago"
    here = holder.get("host") == socket.gethostname() and holder.get("pid_namespace") in (None, _pid_namespace())
    if not here:
        return ""
    visible = _process_start(os.getpid()) is not None
    start = _process_start(holder["pid"])
    try:
        os.kill(holder["pid"], 0)
    except (ProcessLookupError, OverflowError):
        return "its process is gone"
    except PermissionError:  # another user's, whom /proc may hide
        visible = start is not None
    if visible and start is None:
        return "its process is gone"
    return "its pid belongs to another process now" if visible and holder.get("process_start") not in (None, start) else ""


def _who(holder: dict[str, Any]) -> str:
    return f"pid {holder['pid']} on host {holder['host']}" if holder else "an unreadable holder"


def _held(path: pathlib.Path, holder: dict[str, Any], status: os.stat_result | None, now: float) -> str:
    age = "just now" if status is None else f"{max(0, round(now - status.st_mtime))} s ago"
    started = f", started {holder['started']}" if isinstance(holder.get("started"), str) else ""
    return (
        f"{path.parent} is in use by another run: {_who(holder)}{started}, last heartbeat {age}.\n"
        "Wait for it, stop it, or choose another --workdir. If no such process exists any more,\n"
        f"the workdir is free {STALE_SECONDS / 60:.0f} minutes after the last heartbeat, or once you delete {path.name}."
    )


def _is_ours(path: pathlib.Path, content: bytes) -> bool:
    """Whether `path` still holds our content, asked by the process that wrote it and not by a fork of it."""
    try:
        return path.read_bytes() == content and json.loads(content)["pid"] == os.getpid()
    except FileNotFoundError:
        return False


def _beat(path: pathlib.Path, content: bytes, done: threading.Event) -> None:
    """Renews the mtime until `done`; ends with a warning when another run has taken the workdir (after a long sleep)."""
    while not done.wait(HEARTBEAT_SECONDS):
        with contextlib.suppress(OSError):  # a network file system may come back before the lock is stale
            if _is_ours(path, content):
                os.utime(path)
            elif not done.is_set():
                print(f"warning: {path} is no longer ours; another run may be writing beside it: stop one of them", file=sys.stderr)
                return
