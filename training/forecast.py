"""How long a run will take on this CPU, said before the first step is compiled."""

import time

import jax
import jax.numpy as jnp

_LONG = 6 * 3600.0


def warning(lowered, num_steps: int, name: str) -> str | None:
    """Returns a two-line warning when `num_steps` of a lowered step would take this CPU more than six hours, else None.

    The step's arithmetic as XLA counts it, over the rate of a matrix product measured here and now: a lower bound.
    """
    seconds = num_flops(lowered) / matmul_rate()
    if seconds * num_steps < _LONG:
        return None
    return (
        f"On this CPU a step takes {seconds:.1f} s or more and {num_steps:,} steps {duration(seconds * num_steps)} or more.\n"
        f"For a result in minutes: --config={name}:cpu (a smaller network); for this one: a GPU."
    )


def num_flops(lowered) -> float:
    """Returns the floating-point operations of a lowered function as XLA counts them before it optimises; 0 where it does not say."""
    cost = lowered.cost_analysis()
    return float((cost[0] if isinstance(cost, list) else cost or {}).get("flops", 0.0))


def matmul_rate(size: int = 1024, repeats: int = 3, dtype=jnp.float32) -> float:
    """Returns floating-point operations a second of a matrix product in `dtype`, the best of a few."""
    matrix = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2.0 * size**3 / best


def duration(seconds: float) -> str:
    """Returns "3.2 days", "5.1 hours", "12 minutes" or "40 seconds"."""
    for unit, length in (("days", 86400.0), ("hours", 3600.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"
