"""Checkpoints of a state: written by Orbax, sealed by a SHA-256 manifest, renamed into place, read back only when whole.

Orbax restores a flipped bit without a word, so every file's hash stands in `manifest.json`, which carries its own.
"""

import contextlib
import hashlib
import json
import logging
import math
import os
import pathlib
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp

from microscopy.atomic import write_bytes
from training.errors import ConfigError, RunError
from training.task import Score

MANIFEST = "manifest.json"
KEEP = 2
logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax reports each array and its own clean-up there


def leaf_names(state) -> dict[str, jax.Array]:
    """Returns `a/b/c` -> leaf for every array of the state."""
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def sha256(state) -> str:
    """Returns the SHA-256 over names, dtypes, shapes and bytes of every array, in tree order."""
    digest = hashlib.sha256()
    for name, leaf in leaf_names(state).items():
        array = np.asarray(leaf)
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def steps(workdir) -> list[int]:
    """Returns the steps that have a checkpoint folder, ascending; sound or not."""
    folder = pathlib.Path(workdir) / "checkpoints"
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit()) if folder.is_dir() else []


def sweep(workdir) -> None:
    """Deletes what a process that was killed while it saved has left half-written."""
    for path in (pathlib.Path(workdir) / "checkpoints").glob("writing.*"):
        shutil.rmtree(path, ignore_errors=True)


def check_space(workdir, state) -> None:
    """Raises RunError when the disk cannot hold the checkpoints a run keeps (the last two, the best) and one being written."""
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    free = shutil.disk_usage(workdir).free
    needed = (KEEP + 2) * size + 50_000_000
    if free < needed:
        raise RunError(
            f"{workdir}: {free / 1e6:.0f} MB free, {needed / 1e6:.0f} MB needed for {KEEP + 2} checkpoints.\n"
            "Free space or choose another --workdir."
        )


def save(workdir, step: int, state, score: Score | None = None) -> pathlib.Path:
    """Returns checkpoints/STEP after the state stands there whole, with its score; all but the last two and the best are then deleted.

    Raises RunError where a leaf is NaN or infinite (nothing is written) and where the disk is full or refuses.
    """
    state = jax.device_get(state)
    _refuse_non_finite(state, step)
    folder = pathlib.Path(workdir).resolve() / "checkpoints"
    final, temporary = folder / str(step), folder / f"writing.{step}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        with _checkpointer() as checkpointer:
            checkpointer.save(temporary / "state", leaf_names(state))
        _seal(temporary, step, state, score)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
        _sync_folder(folder)
    except (OSError, ValueError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        kept = ", ".join(map(str, steps(workdir))) or "none"
        raise RunError(
            f"{final}: the checkpoint of step {step} could not be written: {_first_line(error)}.\n"
            f"Checkpoints kept: {kept}. Mend the disk (space, permission) and give the same command again."
        ) from error
    for old in set(steps(workdir)[:-KEEP]) - {best(workdir)}:
        shutil.rmtree(folder / str(old), ignore_errors=True)
    return final


def scores(workdir) -> dict[int, Score]:
    """Returns step -> score of the checkpoints that carry a finite one comparable with the newest's, ascending."""
    found = {}
    for step in steps(workdir):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # a damaged manifest is told where it is restored
            manifest = json.loads((pathlib.Path(workdir) / "checkpoints" / str(step) / MANIFEST).read_bytes())["manifest"]
            found[step] = Score(*manifest["score"])
    found = {step: score for step, score in found.items() if math.isfinite(score.value)}
    last = found[max(found)] if found else None
    return {step: score for step, score in found.items() if (score.name, score.protocol) == (last.name, last.protocol)}


def best(workdir) -> int | None:
    """Returns the step of the checkpoint with the lowest score, the earlier of equal ones; None where none has one."""
    found = scores(workdir)
    return min(found, key=lambda step: (found[step].value, step), default=None)


def is_best(workdir, score: Score | None) -> bool:
    """Returns whether a new score is below those of all checkpoints that it can be compared with."""
    found = scores(workdir)
    alike = [old.value for old in found.values() if (old.name, old.protocol) == (score.name, score.protocol)] if score else []
    return score is not None and math.isfinite(score.value) and all(score.value < value for value in alike)


def _first_line(error) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200].rstrip(".")


def _refuse_non_finite(state, step):
    for name, leaf in leaf_names(state).items():
        if np.issubdtype(leaf.dtype, np.floating) and not np.isfinite(leaf).all():
            raise RunError(f"step {step}: {name} holds NaN or infinity; nothing was saved.\n{NON_FINITE_REMEDY}")


NON_FINITE_REMEDY = (
    "Lower config.train.generator_rate and discriminator_rate, or look at the data with --mode=inspect; older checkpoints are untouched."
)


def _files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    found = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    found.pop(MANIFEST, None)
    return found


def _seal(folder, step, state, score):
    for path in _files(folder).values():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    for inner in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        _sync_folder(inner)
    arrays = {name: [str(leaf.dtype), list(leaf.shape)] for name, leaf in leaf_names(state).items()}
    files = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in _files(folder).items()}
    manifest = {"step": step, "sha256": sha256(state), "arrays": arrays, "files": files, "score": score}
    seal = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    write_bytes(folder / MANIFEST, json.dumps({"manifest": manifest, "seal": seal}, indent=1).encode())


def _sync_folder(folder: pathlib.Path) -> None:
    """After a power cut names must be on the disk too, not only what they stand for."""
    with contextlib.suppress(OSError):  # some network disks have no such call
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def verify(workdir, step: int) -> dict:
    """Returns the manifest of a whole checkpoint; RunError naming the step and the damaged file otherwise."""
    folder = pathlib.Path(workdir).resolve() / "checkpoints" / str(step)

    def damaged(file, what):
        return RunError(f"checkpoint {step} is damaged: {folder / file} {what}.")

    try:
        sealed = json.loads((folder / MANIFEST).read_bytes())
        manifest = sealed["manifest"]
        seal = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
        if seal != sealed["seal"] or manifest["step"] != step:
            raise damaged(MANIFEST, "does not match its own hash")
    except OSError as error:
        raise damaged(MANIFEST, "is missing or unreadable") from error
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(MANIFEST, "is not a manifest") from error
    found = _files(folder)
    for name, expected in manifest["files"].items():
        if name not in found:
            raise damaged(name, "is missing")
        if hashlib.sha256(found[name].read_bytes()).hexdigest() != expected:
            raise damaged(name, "does not match its hash")
    return manifest


def restore(workdir, step: int, like):
    """Returns the state of a checkpoint with the tree, shapes, dtypes and shardings of `like` (ShapeDtypeStructs or arrays).

    RunError where it is damaged, ConfigError where it holds other arrays than `like` (another network).
    """
    manifest = verify(workdir, step)
    wanted = leaf_names(like)
    expected = {name: [str(leaf.dtype), list(leaf.shape)] for name, leaf in wanted.items()}
    if expected != manifest["arrays"]:
        names = sorted(set(expected) ^ set(manifest["arrays"])) or [n for n in expected if expected[n] != manifest["arrays"][n]]
        raise ConfigError(
            f"checkpoint {step} of {workdir} is of another network: {names[0]} is {manifest['arrays'].get(names[0], 'absent')} there, "
            f"{expected.get(names[0], 'absent')} here.\nUse the config it was trained with, or another --workdir."
        )
    folder = pathlib.Path(workdir).resolve() / "checkpoints" / str(step) / "state"
    targets = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None)) for name, leaf in wanted.items()
    }
    found = _read(folder, targets)
    state = jax.tree.unflatten(jax.tree.structure(like), [found[name] for name in wanted])
    if sha256(state) != manifest["sha256"]:
        raise RunError(f"checkpoint {step} is damaged: {folder} restores to other values than were saved.")
    return state


def restore_newest(workdir, like, note=print):
    """Returns (state, step) of the newest sound checkpoint, or (None, 0) where there never was one.

    Each damaged one is named through `note` and, once a sound one is found, set aside as damaged.STEP so that it is not
    taken for the newest again. RunError when checkpoints exist and all are damaged: never a fresh start.
    """
    found, damaged = steps(workdir), []
    folder = pathlib.Path(workdir).resolve() / "checkpoints"
    for step in reversed(found):
        try:
            state = restore(workdir, step, like)
        except RunError as error:
            note(f"{error} Trying the one before.")
            damaged.append(step)
            continue
        for bad in damaged if jax.process_index() == 0 else ():
            shutil.rmtree(folder / f"damaged.{bad}", ignore_errors=True)
            os.replace(folder / str(bad), folder / f"damaged.{bad}")
        return state, step
    if found:
        raise RunError(
            f"{workdir}: all checkpoints ({', '.join(map(str, found))}) are damaged; see above.\n"
            "Restore a backup, or choose a new --workdir."
        )
    _refuse_lost(workdir)
    return None, 0


def _refuse_lost(workdir):
    """A run that once saved and has no checkpoint left is not begun anew in silence."""
    try:
        saved = json.loads((pathlib.Path(workdir) / "status.json").read_text())["checkpoint"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if saved is not None:
        raise RunError(
            f"{workdir}/checkpoints is empty, but status.json says that step {saved} was saved.\n"
            "Restore a backup, or choose a new --workdir."
        )


def choose(workdir, which: str, flag: str = "--checkpoint=") -> int:
    """Returns the step that `flag` names: "last" (the newest sound one), "best" or a number. RunError where there is none."""
    found = steps(workdir)
    if not found:
        raise RunError(f"{workdir}: no checkpoint there. Train first: python main.py --config=... --workdir={workdir}")
    if which == "last":
        for step in reversed(found):
            try:
                verify(workdir, step)
                return step
            except RunError as error:
                print(f"{error} Trying the one before.")
        raise RunError(f"{workdir}: all checkpoints are damaged; see above.")
    if which == "best" and (chosen := best(workdir)) is not None:
        return chosen
    if not which.isdigit() or int(which) not in found:
        none = " no checkpoint of this run has been scored;" if which == "best" else ""
        raise ConfigError(f"{flag}{which}:{none} choose last, best or one of {', '.join(map(str, found))} ({workdir}).")
    return int(which)


def restore_for_inference(workdir, task, which: str = "last"):
    """Returns (state, step) of a trained workdir for reading only."""
    step = choose(workdir, which)
    like = jax.eval_shape(lambda key: task.init(key, None), jax.random.key(0))
    return restore(workdir, step, like), step


def restore_arrays(workdir, which: str = "last") -> dict[str, np.ndarray]:
    """Returns {name: array} of a checkpoint whatever its network, for `config.init_from`."""
    step = choose(workdir, which)
    arrays = verify(workdir, step)["arrays"]
    folder = pathlib.Path(workdir).resolve() / "checkpoints" / str(step) / "state"
    targets = {name: jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype)) for name, (dtype, shape) in arrays.items()}
    return {name: np.asarray(leaf) for name, leaf in _read(folder, targets).items()}


def _checkpointer() -> ocp.StandardCheckpointer:
    """Orbax for this process alone: of several, the first writes and each reads for itself, so none waits for another."""
    if jax.process_count() == 1:
        return ocp.StandardCheckpointer()
    own = jax.process_index()
    options = ocp.options.MultiprocessingOptions(primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process{own}")
    return ocp.StandardCheckpointer(multiprocessing_options=options)


def _read(folder: pathlib.Path, targets: dict[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
    with _checkpointer() as checkpointer:
        return checkpointer.restore(folder, targets)
