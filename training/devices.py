"""All visible devices, of one or several processes, as one axis `data`: state replicated, batches split along their first axis."""

import os
import pathlib
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from training.errors import ConfigError


def join() -> None:
    """Joins the processes of a run over several hosts; call it before anything else touches JAX.

    JAX_COORDINATOR_ADDRESS (HOST:PORT of the first), JAX_NUM_PROCESSES and JAX_PROCESS_ID say who is who; under SLURM and
    other launchers that JAX knows all three may be absent. ConfigError where they cannot be made out.
    """
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM away from the loop
    numbers = {}
    for name in ("num_processes", "process_id"):
        text = os.environ.get(f"JAX_{name.upper()}")
        if text is not None and not text.isdigit():
            raise ConfigError(f"JAX_{name.upper()}={text}: a whole number from 0 on.")
        numbers[name] = None if text is None else int(text)
    where = os.environ.get("JAX_COORDINATOR_ADDRESS", "the address the launcher gives")
    print(f"Waiting for all processes of the run at {where}.", flush=True)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM)}  # joining blocks in C++
    try:
        jax.distributed.initialize(**numbers)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ConfigError(
            f"--distributed: {str(error).splitlines()[0]}\nSet JAX_COORDINATOR_ADDRESS=HOST:PORT, JAX_NUM_PROCESSES and JAX_PROCESS_ID."
        ) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def primary() -> bool:
    """Returns whether this is the process that writes: the first, or the only one."""
    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Returns whether `flag` is set in any process; all of them must ask, and all get the same answer."""
    return flag if jax.process_count() == 1 else bool(multihost_utils.process_allgather(np.array(flag)).any())


def of_all_processes(value: int) -> list[int]:
    """Returns the value of every process; all of them must ask."""
    return [value] if jax.process_count() == 1 else [int(found) for found in multihost_utils.process_allgather(np.array(value))]


def make_mesh(batch_size: int, devices=None) -> jax.sharding.Mesh:
    """Returns the mesh over all visible devices; ConfigError where they do not divide the batch."""
    devices = jax.devices() if devices is None else devices
    if batch_size < 1 or batch_size % len(devices):
        raise ConfigError(
            f"config.train.batch_size={batch_size} cannot be split over {len(devices)} devices.\n"
            f"Use a multiple of {len(devices)}, or hide devices (CUDA_VISIBLE_DEVICES)."
        )
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=np.array(devices))


def replicate(mesh, tree):
    """Returns the tree with every array whole on every device; each process gives the same values."""
    sharding = NamedSharding(mesh, PartitionSpec())
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda leaf: _globally(leaf, sharding), tree)


def _globally(leaf, sharding):
    """An array of this process's own device becomes a global one by way of the host; a key by way of its numbers."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jax.device_put(np.asarray(jax.random.key_data(leaf)), sharding))
    return jax.device_put(np.asarray(leaf), sharding)


def local(tree):
    """Returns the tree as `replicate` gave it, on this process's own devices alone, for work that only one process does."""
    return tree if jax.process_count() == 1 else jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def split_batch(mesh, batch):
    """Returns the batch, inside a jitted function, constrained to be split over the devices along its first axis."""
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, sharding), batch)


def describe() -> str:
    """Returns one line: how many devices of which kind, and on a CPU how many cores."""
    devices = jax.devices()
    hosts = f" on {jax.process_count()} processes" if jax.process_count() > 1 else ""
    cores = f", {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores" if on_cpu() else ""
    return f"{len(devices)} x {devices[0].device_kind}{cores}{hosts} (jax {jax.__version__}, {devices[0].platform})"


def on_cpu() -> bool:
    """Returns whether JAX computes on the CPU."""
    return jax.default_backend() == "cpu"


DTYPES = ("auto", "float32", "bfloat16")


def with_dtype(config):
    """Returns the config with model.dtype "auto" made bfloat16 on an accelerator and float32 on a CPU.

    Done before a workdir records its config, so that a run keeps the dtype it began with.
    ConfigError for a name that is none of `DTYPES`. A config without the field comes back as it is.
    """
    name = config.model.get("dtype")
    if name is not None and name not in DTYPES:
        raise ConfigError(f"config.model.dtype={name!r}: choose {', '.join(DTYPES)}.")
    if name != "auto":
        return config
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.model.dtype = "float32" if on_cpu() else "bfloat16"
    return config


def unseen_gpu() -> bool:
    """Returns whether the machine has an NVIDIA GPU that JAX does not use."""
    present = pathlib.Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    return (
        on_cpu() and present and os.environ.get("CUDA_VISIBLE_DEVICES") != "" and not os.environ.get("JAX_PLATFORMS", "").startswith("cpu")
    )
