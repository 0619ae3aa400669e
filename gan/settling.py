"""Batch-norm statistics for inference, re-estimated from several batches: "precise BN" (Wu and Johnson 2021, arXiv 2105.07576, 3.1)."""

import jax
import jax.numpy as jnp

NUM_BATCHES = 16


def moments(batch_stats):
    """Returns {layer: (mean, mean square)} of one batch's collection `batch_stats` ({layer: {"mean", "var"}})."""
    return {name: (s["mean"], s["var"] + s["mean"] ** 2) for name, s in batch_stats.items()}


@jax.jit
def pooled(totals):
    """Returns the collection `batch_stats` of several batches' `moments`: means averaged, variances by the law of total variance.

    A function of the parameters alone where the batches are fixed, so that it does not matter when a run was saved.
    """
    means = jax.tree.map(lambda *leaves: sum(leaves) / len(totals), *totals)
    return {name: {"mean": mean, "var": jnp.maximum(second - mean**2, 0.0)} for name, (mean, second) in means.items()}
