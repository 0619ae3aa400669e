"""How a run begins: what it says of itself, the folder, the state it starts or goes on from, weights it is begun with."""

from typing import Any

import jax

from microscopy import fields, inspection, preparation
from training import checkpoints, devices, forecast, lineage, pseudonyms, weights
from training.errors import ConfigError, RunError


def introduce(config, prepared, notes: tuple[str, ...] = (), warned: bool = False) -> None:
    """Prints, on the first process, what is trained on: source, splits, crop, range, devices, the method's notes, refused files, warnings.

    Not the last with `warned`, for a stage whose scans come from a run over stages that has told what is wrong with them.
    """
    if not devices.primary():
        return
    crop, nm = prepared.crop, prepared.value_map.nm_per_pixel
    height, width = config.data.height, config.data.width
    counts = ", ".join(f"{len(part)} {name.replace('_', ' ')}" for name, part in prepared.splits.items())
    source = "the built-in simulator, not your scans" if config.data.source in fields.BUILT_IN else pseudonyms.source(config.data, prepared)
    sides = (nm[1] * width, nm[0] * height) if nm else ()
    area = " = " + " x ".join(f"{side:,.0f}" if side >= 1000 else f"{side:.4g}" for side in sides) + " nm" if nm else ""
    print(f"{config.name}: {config.task} on {source}: {counts} scans{f', {len(prepared.refused)} refused' if prepared.refused else ''}.")
    values = f"{prepared.value_map.low:.4g} .. {prepared.value_map.high:.4g} {prepared.value_map.unit}"
    reduced = "" if tuple(crop) == (height, width) else f", reduced to {width} x {height}"
    print(f"Crops {crop[1]} x {crop[0]} px{area}{reduced}; {values} to -1 .. 1.")
    print(f"Devices: {devices.describe()}; networks compute in {config.model.dtype}.")
    for note in notes:
        print(note)
    if devices.unseen_gpu():
        print("A GPU is present but JAX does not see it: install the GPU build (make test ACCELERATOR=cuda12).")
    if prepared.classes:
        print("Classes: " + ", ".join(f"{name} {count}" for name, count in preparation.classes(prepared).items()) + ".")
    for refused in prepared.refused[:5]:
        print(f"refused: {refused.file}: {refused.reason}")
    if prepared.refused[5:]:
        print(f"refused: {len(prepared.refused) - 5} more; --mode=inspect lists all.")
    if warned:
        return
    if not prepared.splits["held_out"]:
        print("warning: no scan is held out, so scores are against the training scans; three scans or groups at least are needed.")
    for text in inspection.warnings(prepared):
        print(f"warning: {text}")


def open_folder(workdir) -> None:
    """Makes the workdir; RunError where it cannot be written."""
    try:
        (workdir / "samples").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"--workdir={workdir} cannot be written: {error}.") from error


def begin(workdir, task, key, imported, mesh, num_steps: int) -> tuple[Any, int]:
    """Returns (state, step) on every device of the mesh: the newest sound checkpoint's, or a new one at step 0.

    ConfigError where the checkpoint lies beyond `num_steps`, RunError where the disk cannot hold the checkpoints to come, and where
    the processes of a run find different steps.
    """
    if devices.primary():
        checkpoints.sweep(workdir)
    state, step = checkpoints.restore_newest(workdir, jax.eval_shape(lambda key: task.init(key, None), key))
    found = devices.of_all_processes(step)
    if len(set(found)) > 1:
        raise RunError(
            f"--workdir={workdir}: the processes found checkpoints of the steps {', '.join(map(str, found))}.\n"
            "Give all of them one folder on a disk that they share."
        )
    if step > num_steps:
        raise ConfigError(
            f"config.train.num_steps={num_steps}, but {workdir} has come to step {step}.\n"
            f"Ask for {step} or more, or begin anew in another --workdir."
        )
    fresh = state is None
    state = devices.replicate(mesh, task.init(key, imported) if fresh else state)
    if devices.primary():
        if step < num_steps:
            checkpoints.check_space(workdir, state)
        numbers = f"{sum(leaf.size for leaf in jax.tree.leaves(state)):,} numbers in the state"
        print(f"{numbers}; beginning at step 0." if fresh else f"Going on from step {step:,} of {workdir}.")
    return state, step


def imported(config, workdir) -> tuple[Any, list[dict]]:
    """Returns (arrays, upstream of lineage.json) of `config.init_from`; arrays only where no step has been saved yet, else None."""
    if not config.init_from:
        return None, []
    if checkpoints.steps(workdir):
        return None, lineage.read(workdir)["upstream"]
    arrays, upstream = weights.read(config.init_from)
    return arrays, [upstream]


def warn(config, lower) -> None:
    """Prints, on a CPU, how long the run would take where that is hours; `lower()` returns one step, lowered."""
    if devices.on_cpu():
        text = forecast.warning(lower(), config.train.num_steps, config.name)
        if text:
            print(text, flush=True)
