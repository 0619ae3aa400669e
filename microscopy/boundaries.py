"""What pixels between cells count for more in a loss."""

import numpy as np
import scipy.ndimage

REACH = 6.0
"""Sigmas beyond which the boundary term is left out: there it is below w0 exp(-18), 1.5e-7 for w0 = 10."""


def boundary_weights(
    instances: np.ndarray, class_weights: tuple[float, float] = (1.0, 1.0), w0: float = 10.0, sigma: float = 5.0
) -> np.ndarray:
    """Returns float32 (h, w) or (d, h, w): w_c + w0 exp(-(d1 + d2)^2 / (2 sigma^2)), high in narrow gaps between two cells.

    Ronneberger et al. 2015 (arXiv:1505.04597, eq. 2), w0 and sigma as there. `instances` are whole numbers, 0 the background; d1 and d2
    are the distances of a background pixel to the nearest and second nearest cell in pixels, 1 beside a cell; w_c is class_weights[0]
    on the background and [1] in the cells, which get no second term. Host, NumPy, once for a mask: cells are taken one by one with
    `REACH` sigmas around, so that the time does not grow with cells times pixels.
    """
    values, places = np.unique(instances, return_inverse=True)  # ids may be anything up to 2^31
    instances, margin = places.reshape(np.shape(instances)) + int(values[0] > 0), int(np.ceil(REACH * sigma))
    nearest = np.full((2, *instances.shape), np.inf)
    for number, box in enumerate(scipy.ndimage.find_objects(instances), 1):
        if box is None:
            continue
        window = tuple(slice(max(side.start - margin, 0), side.stop + margin) for side in box)
        distance = scipy.ndimage.distance_transform_edt(instances[window] != number)
        first, second = nearest[(0, *window)], nearest[(1, *window)]
        np.minimum(second, np.maximum(first, distance), out=second)
        np.minimum(first, distance, out=first)
    cells = instances > 0
    gap = np.where(cells, 0.0, w0 * np.exp(-(nearest.sum(0) ** 2) / (2 * sigma**2)))
    return (np.where(cells, class_weights[1], class_weights[0]) + gap).astype(np.float32)
