"""The stages of a chain that are trainings: their configs with what other stages give filled in, and what they leave."""

import functools
import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from microscopy.atomic import write_json
from training import checkpoints, devices, forecast, lineage, loop
from training import workdir as workdirs
from training.errors import EXPECTED, RunError
from training.signals import Stop


def placed(config, workdir: pathlib.Path):
    """Returns the config of a stage as the loop takes it, "stage:NAME..." in it replaced by the place in the workdir."""
    config = config.copy_and_resolve_references()
    with config.unlocked():
        data = config.data
        for name, prefix in (("source", "folder:"), ("masks", "")):
            kind, _, rest = data[name].partition(":")
            data[name] = f"{prefix}{workdir / rest}" if kind == "stage" else data[name]
        kind, _, rest = config.init_from.partition(":")
        if kind == "stage":
            config.init_from = f"{workdir / rest}@last"  # the best is chosen by held-out scans, which judge
    return config


def refuse_unfit(name: str, config) -> None:
    """Raises what is wrong with the config or the weights of a training, whatever its data are, with the stage's name."""
    try:
        loop.planned(devices.with_dtype(config.copy_and_resolve_references()))
    except EXPECTED as error:
        raise type(error)(f"stage {name}: {error}") from error


def make(config, folder: pathlib.Path, stop: Stop, upstream: list[dict]) -> None:
    """Trains a stage, or goes on; `upstream`, entries of lineage.json, are what is behind the files it was trained on."""
    loop.train(config, folder, stop)
    if upstream and stop.signal is None:
        found = lineage.read(folder)
        kept = [entry for entry in found["upstream"] if entry["source"] not in {one["source"] for one in upstream}]
        write_json(folder / "lineage.json", {**found, "upstream": [*kept, *upstream]})


def outputs(folder: pathlib.Path, num_steps: int) -> Mapping[str, str]:
    """Returns the SHA-256 of the last and of the best checkpoint of a finished training, {} where it is not finished."""
    try:
        status = workdirs.read_object(folder / "status.json")
        if status.get("state") != "finished" or status.get("step") != num_steps:
            return {}
        best = checkpoints.best(folder)
        steps = {"weights": num_steps, "best": num_steps if best is None else best}
        return {name: checkpoints.verify(folder, step)["sha256"] for name, step in steps.items()}
    except RunError:
        return {}


def spent(folder: pathlib.Path, num_images: int) -> float:
    """Returns the seconds that `num_images` took in the steps of a training alone, 0 where status.json does not say."""
    try:
        return num_images / (workdirs.read_object(folder / "status.json").get("images_per_second") or float("inf"))
    except RunError:
        return 0.0


def behind(folder: pathlib.Path, step: int) -> dict:
    """Returns the entry of lineage.json for the weights of a training at `step`."""
    sha256 = checkpoints.verify(folder, step)["sha256"]
    return lineage.of_weights(str(folder), step, sha256, lineage.behind(lineage.read(folder)))


def make_work(config):
    """Returns work(): floating-point operations of a whole training, as XLA counts those of a step; computed once."""

    @functools.cache
    def work() -> float:
        task, _ = loop.planned(devices.with_dtype(config.copy_and_resolve_references()))
        data, num = config.data, config.train.batch_size
        channels = data.channels + (data.get("label_field", "none") != "none")
        batch = {"image": jax.ShapeDtypeStruct((num, data.height, data.width, channels), jnp.float32)}
        if data.use_masks:
            flat = (num, data.height, data.width)
            batch |= {"mask": jax.ShapeDtypeStruct(flat, jnp.int32), "weight": jax.ShapeDtypeStruct(flat, jnp.float32)}
        key = jax.random.key(0)
        state = jax.eval_shape(lambda key: task.init(key, None), key)
        return forecast.num_flops(jax.jit(task.train_step).lower(state, task.frozen, batch, key)) * config.train.num_steps

    return work
