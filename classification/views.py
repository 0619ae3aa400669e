"""What a classifier sees of a whole scan when it is judged or predicted: its middle, reduced as training crops are, once and unturned."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

import input_pipeline
from microscopy.preparation import Prepared
from microscopy.scan import Scan


def make_view(prepared: Prepared, data, num: int) -> Callable[[Sequence[Scan]], np.ndarray]:
    """Returns view(scans): 1 to `num` scans to float32 (n, height, width, c) in [-1, 1], their centre crops.

    A scan of the crop's own size is seen whole. The pixels are those of a training crop in the same place. Few programs are compiled,
    whatever the sizes: their buffers are filled up to powers of two.
    """

    cut = _make_cut(prepared.crop, data.height, data.width, num)

    def view(scans):
        filled = [*scans, *[scans[-1]] * (num - len(scans))]
        arrays = input_pipeline.resident(filled, prepared, data)
        missing = (1 << (len(arrays["pixels"]) - 1).bit_length()) - len(arrays["pixels"])
        arrays["pixels"] = np.pad(arrays["pixels"], ((0, missing), (0, 0)))
        return np.asarray(cut(arrays))[: len(scans)]

    return view


@functools.lru_cache(8)
def _make_cut(crop: tuple[int, int], height: int, width: int, num: int):
    """Kept, so that an evaluation does not compile anew what the one before it compiled."""

    @jax.jit
    def cut(arrays):
        size, sides, none = arrays["size"], jnp.asarray([crop], jnp.int32), jnp.zeros(num, jnp.int32)
        centre = jnp.maximum(size - sides, 0) // 2 + (jnp.minimum(size, sides) - 1) / 2.0
        place = {"scan": jnp.arange(num), "y": centre[:, 0], "x": centre[:, 1], "angle": jnp.zeros(num), "quarter": none, "flip": none > 0}
        return input_pipeline.crops(arrays, place, crop, height, width)["image"]

    return cut
