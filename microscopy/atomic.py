"""Files appear under their final name whole or not at all."""

import json
import math
import os
import pathlib


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
