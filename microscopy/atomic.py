"""Files appear under their final name whole or not at all."""

import contextlib
import json
import math
import os
import pathlib
import re
import time

DEAD_SECONDS, STRAY_SECONDS = 1.0, 10.0
"""How old a half-written file is at least whose process has ended here, and one whose process lives or is another machine's."""


def write_bytes(path: str | os.PathLike, content: bytes) -> pathlib.Path:
    """Returns `path` after `content` has been written beside it, flushed to disk and renamed over it.

    Raises OSError (disk full, no permission); what stood under `path` before is then untouched and nothing is left.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def leftovers(folder: pathlib.Path, pattern: str) -> list[pathlib.Path]:
    """Returns the half-written files, of names like `pattern` (a glob below `folder`), that killed processes left; no write under way."""
    name = pathlib.PurePath(pattern)
    found = []
    for path in folder.glob(str(name.with_name(f".{name.name}.*.tmp"))):
        pid = re.search(r"\.([1-9][0-9]*)\.tmp$", path.name)
        with contextlib.suppress(FileNotFoundError):  # written to its end since it was listed
            if pid and time.time() - path.stat().st_mtime > (STRAY_SECONDS if _lives(int(pid[1])) else DEAD_SECONDS):
                found.append(path)
    return found


def _lives(pid: int) -> bool:
    """Whether another process of this number runs on this machine; numbers begin anew in a container, so its own may be an old one's."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass
    return pid != os.getpid()


def write_json(path: str | os.PathLike, value) -> pathlib.Path:
    """Returns `path` after `value` has been written to it as indented JSON, whole or not at all (see `write_bytes`)."""
    return write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def finite(value):
    """Returns a value of dicts, lists and numbers as JSON can say it: None for one that is not finite."""
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
