"""All visible devices as one axis `data`: state replicated, batches split along their first axis."""

import os
import pathlib
import shutil

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from training.errors import ConfigError


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
    """Returns the tree with every array whole on every device."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def split_batch(mesh, batch):
    """Returns the batch, inside a jitted function, constrained to be split over the devices along its first axis."""
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, sharding), batch)


def describe() -> str:
    """Returns one line: how many devices of which kind, and on a CPU how many cores."""
    devices = jax.devices()
    cores = f", {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores" if on_cpu() else ""
    return f"{len(devices)} x {devices[0].device_kind}{cores} (jax {jax.__version__}, {devices[0].platform})"


def on_cpu() -> bool:
    """Returns whether JAX computes on the CPU."""
    return jax.default_backend() == "cpu"


def unseen_gpu() -> bool:
    """Returns whether the machine has an NVIDIA GPU that JAX does not use."""
    present = pathlib.Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    return (
        on_cpu() and present and os.environ.get("CUDA_VISIBLE_DEVICES") != "" and not os.environ.get("JAX_PLATFORMS", "").startswith("cpu")
    )
