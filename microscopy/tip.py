"""What a blunt tip makes of a surface: grey-scale dilation by a paraboloid, exact on the pixel grid."""

import math

import numpy as np

from microscopy.scan import DataError


def dilate(surface: np.ndarray, nm_per_pixel: float, radius_nm: float) -> np.ndarray:
    """Returns the heights a scan records of `surface`, which a paraboloidal tip of apex radius R = `radius_nm` touches.

    image(x) = max over u of surface(u) - |x - u|^2 / (2 R), u over all pixels (Villarrubia, J. Res. NIST 102, 425, 1997: dilation,
    here by a paraboloid; beyond the border there is nothing to touch). |x - u|^2 is a sum over the axes, so
    the maximum is taken along y, then along x, with no approximation (van den Boomgaard et al., ISMM 1996).
    `surface` is (h, w) float32 or float64 in nm, the result has its shape and dtype; radius 0 returns a copy.
    Raises DataError for another shape, a height that is not finite, or a negative radius.
    """
    if surface.ndim != 2 or surface.size == 0 or not np.isfinite(surface).all():
        raise DataError(f"surface {surface.shape}: the tip needs a finite height map (h, w)")
    if not (0 <= radius_nm < math.inf and nm_per_pixel > 0):
        raise DataError(f"tip radius {radius_nm} nm at {nm_per_pixel} nm/px: give a radius of 0 or more and a positive scale")
    if radius_nm == 0:
        return surface.copy()
    curvature = nm_per_pixel**2 / (2 * radius_nm)
    along_y = _dilate_columns(np.ascontiguousarray(surface), curvature)
    return np.ascontiguousarray(_dilate_columns(np.ascontiguousarray(along_y.T), curvature).T)


def _dilate_columns(surface: np.ndarray, curvature: float) -> np.ndarray:
    """Returns max over k of surface[y + k] - curvature k^2 along axis 0, in the dtype of `surface`."""
    # A neighbour that the parabola lowers by the whole range can no longer be the maximum: the window loses nothing.
    reach = min(math.ceil(math.sqrt(float(np.ptp(surface)) / curvature)), surface.shape[0] - 1)
    dilated = surface.copy()
    lowered = np.empty_like(surface)
    for offset in range(1, reach + 1):
        np.subtract(surface, surface.dtype.type(curvature * offset * offset), out=lowered)
        np.maximum(dilated[offset:], lowered[:-offset], out=dilated[offset:])
        np.maximum(dilated[:-offset], lowered[offset:], out=dilated[:-offset])
    return dilated
