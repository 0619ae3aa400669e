"""The vocabulary shared by the loop, the input pipeline and the methods. Records only; nothing here runs anything."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import numpy as np

from microscopy.preparation import Prepared

Batch = Mapping[str, jax.Array]
"""Arrays under fixed words: `image` float32 NHWC in [-1, 1], of stacks NDHWC (a label field, where config.data.label_field asks for one, is
its last channel), `label` int32 (b), `mask` int32 (b h w) or (b d h w), `weight` float32 (b h w; what a pixel counts), `low` (superres
input), `valid` bool (b) in evaluation, False where a row only pads the batch."""

Scalars = Mapping[str, jax.Array]
"""Names like `generator/loss` to float32 scalars."""


@flax.struct.dataclass
class Net:
    """One network's arrays: parameters, normalisation statistics and optimiser state."""

    params: Any
    stats: Any
    opt_state: Any


@dataclasses.dataclass(frozen=True)
class Data:
    """What a task trains and is evaluated on.

    `arrays` live on the device and are an argument of the jitted step, never closed over. `sample(arrays, key)` is
    jittable and gives one training batch. `refresh(arrays, step)` runs on the host and is a function of (seed, step):
    it exchanges the resident window of a set larger than the device, and returns its argument otherwise.
    `batches(split)` iterates "train", "held_out" or "test" in fixed order, the last batch padded, with `valid`.
    `prepared` is what all of it is cut from: the scans by split, the crop, the map between [-1, 1] and heights or grey levels.
    `upstream` are the entries of lineage.json for the weights the run was begun from. `workdir` is the run's where other scans stand in
    the place of its held-out ones, for what it had fitted on its own; else None.
    """

    arrays: Any
    sample: Callable[[Any, jax.Array], Batch]
    refresh: Callable[[Any, int], Any]
    batches: Callable[[str], Iterator[Batch]]
    prepared: Prepared
    upstream: tuple[Mapping[str, Any], ...] = ()
    workdir: pathlib.Path | None = None


class Score(NamedTuple):
    """The one number that ranks checkpoints, lower is better; only scores of equal `name` and `protocol` are compared."""

    name: str
    value: float
    protocol: str


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Scalars for the log and evaluation.json, tables (list of rows) and figures (uint8 pictures) for the report.

    `protocol` says in one sentence what the scores were taken on: how many images of which size against what. `score` is what the
    best checkpoint is chosen by.
    """

    scalars: Mapping[str, float]
    tables: Mapping[str, list[Mapping[str, Any]]] = dataclasses.field(default_factory=dict)
    figures: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    protocol: str = ""
    score: Score | None = None


@dataclasses.dataclass(frozen=True)
class Task:
    """A method as the loop sees it; a record of pure functions, made by `make_task(config)` in the method's file.

    `frozen` holds parameters that never train and `State` is the method's own `flax.struct` record with an int32
    `step`. `settle(state)` returns the state as it is saved and scored, for what only inference needs (re-estimated
    batch-norm statistics): nothing `train_step` reads may differ, so that saving never changes training.
    `notes` are told before training: what a user would not expect of this config. `for_scans(prepared)` returns the task for the scans
    at hand once they are read (with the number of their classes, say), or raises what is wrong with them; None where they change nothing.
    """

    frozen: Any
    init: Callable[[jax.Array, Any], Any]
    train_step: Callable[[Any, Any, Batch, jax.Array], tuple[Any, Scalars]]
    settle: Callable[[Any], Any]
    evaluate: Callable[[Any, Any, Data, jax.Array], Evaluation]
    preview: Callable[[Any, Any, Batch, jax.Array], np.ndarray]
    notes: tuple[str, ...] = ()
    for_scans: Callable[[Prepared], "Task"] | None = None
