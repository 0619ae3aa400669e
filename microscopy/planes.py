"""Smooth surfaces under a height map: plane, plane of the background, polynomial, and the plane that terraces share."""

import numpy as np
import scipy.ndimage

from microscopy import rows

FACET_BLUR = 3.0  # pixels: noise shrinks, steps stay far narrower than terraces
FACET_LAGS = (1, 2, 4, 8, 16)
FACET_SCALE = 0.15
BACKGROUND_ROUNDS = 30


def plane(height: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (height minus its least-squares plane, float64 (h, w); coefficients float64 (3): offset, slope_y, slope_x).

    The plane is offset + slope_y y + slope_x x with y, x in pixels from the middle of the map; offset is the mean, slopes are
    in height units per pixel. On a full grid y, x and 1 are orthogonal, so each coefficient has its own closed form.
    """
    height = height.astype(np.float64)
    y, x = middle_axes(height.shape)
    offset = height.mean()
    slope_y = (height - offset).mean(1) @ y / max(y @ y, 1.0)
    slope_x = (height - offset).mean(0) @ x / max(x @ x, 1.0)
    return height - plane_surface(height.shape, offset, slope_y, slope_x), np.array([offset, slope_y, slope_x])


def plane_surface(shape: tuple[int, int], offset: float, slope_y: float, slope_x: float) -> np.ndarray:
    """Returns the plane that `plane` takes away, float64 (h, w)."""
    y, x = middle_axes(shape)
    return offset + slope_y * y[:, None] + slope_x * x[None, :]


def middle_axes(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns y (h) and x (w) of the pixels, float64, counted from the middle of the map."""
    return tuple(np.arange(size) - (size - 1) / 2 for size in shape)


def background_plane(height: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns as `plane` does, for the plane of the background, which particles on it do not pull.

    Least squares reweighted by Tukey's biweight (Beaton and Tukey, Technometrics 16, 147, 1974; c = 4.685). Its zero is the
    residuals' mode and its scale that of the residuals below the mode, because particles only lie above: up to about half of
    the map may be particles. The offset is the height of the background.
    """
    height = height.astype(np.float64)
    coefficients = plane(height)[1]
    thin = tuple(slice(None, None, max(1, size // 256)) for size in height.shape)  # so many pixels fix three numbers
    some = height[thin]
    y, x = (axis[places] for axis, places in zip(middle_axes(height.shape), thin, strict=True))
    for _ in range(BACKGROUND_ROUNDS):
        left = some - (coefficients[0] + coefficients[1] * y[:, None] + coefficients[2] * x[None, :])
        mode = half_sample_mode(left)
        below = mode - left[left < mode]
        scale = 1.4826 * np.median(below) if below.size else 0.0
        if scale <= 1e-12 * np.ptp(height):
            break
        weights = np.clip(1 - ((left - mode) / (4.685 * scale)) ** 2, 0, None) ** 2
        moved = _weighted_plane(left - mode, weights, y, x) + np.array([mode, 0.0, 0.0])
        coefficients = coefficients + moved
        if np.abs(moved[1:]) @ height.shape < 1e-3 * scale:
            break
    return height - plane_surface(height.shape, *coefficients), coefficients


def _weighted_plane(height: np.ndarray, weights: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Returns the coefficients (3) of the plane of weighted least squares; the smallest where several fit (one row or column)."""
    axes = np.broadcast_arrays(1.0, y[:, None], x[None, :])
    axes = [np.broadcast_to(axis, height.shape) for axis in axes]
    normal = np.array([[np.sum(weights * a * b) for b in axes] for a in axes])
    return np.linalg.lstsq(normal, np.array([np.sum(weights * a * height) for a in axes]), rcond=None)[0]


def half_sample_mode(values: np.ndarray) -> float:
    """Returns the mode of values of any shape: the densest half, again and again (Bickel and Fruehwirth, CSDA 50, 3500, 2006).

    Halving stops at 1 % of the values, whose mean is returned: the mode of fewer is noise.
    """
    values = np.sort(values, axis=None)
    fewest = max(2, values.size // 100)
    while values.size > fewest:
        half = (values.size + 1) // 2
        start = int(np.argmin(values[half - 1 :] - values[: values.size - half + 1]))
        values = values[start : start + half]
    return float(values.mean())


def polynomial(height: np.ndarray, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (height minus its least-squares polynomial, float64 (h, w); coefficients, float64 (degree + 1, degree + 1)).

    Coefficient [i, j] belongs to P_i(y) P_j(x) with Legendre polynomials of y, x from -1 (first pixel) to 1 (last);
    i + j <= `degree`, the others are 0, and so are those an axis has too few pixels for.
    """
    height = height.astype(np.float64)
    degrees = [min(degree, size - 1) for size in height.shape]
    bases = [np.linalg.qr(_legendre(size, top)) for size, top in zip(height.shape, degrees, strict=True)]
    # Orthonormal along each axis, so the products up to the total degree are orthonormal on the grid: one projection fits them.
    inner = bases[0].Q.T @ height @ bases[1].Q
    inner *= np.add.outer(np.arange(degrees[0] + 1), np.arange(degrees[1] + 1)) <= degree
    coefficients = np.zeros((degree + 1, degree + 1))
    triangles = [np.linalg.inv(basis.R) for basis in bases]
    coefficients[: degrees[0] + 1, : degrees[1] + 1] = triangles[0] @ inner @ triangles[1].T
    return height - polynomial_surface(height.shape, coefficients), coefficients


def polynomial_surface(shape: tuple[int, int], coefficients: np.ndarray) -> np.ndarray:
    """Returns the polynomial that `polynomial` takes away, float64 (h, w)."""
    along_y, along_x = (_legendre(size, len(coefficients) - 1) for size in shape)
    return along_y @ coefficients @ along_x.T


def _legendre(size: int, degree: int) -> np.ndarray:
    return np.polynomial.legendre.legvander(np.linspace(-1, 1, size) if size > 1 else np.zeros(1), degree)


def facet(height: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns as `plane` does, for the plane parallel to the terraces: they come out flat and the steps between them stay.

    A least-squares plane lies across a staircase; this one has the commonest slope instead, as Gwyddion's facet levelling has (Necas
    and Klapetek, Cent. Eur. J. Phys. 10, 181, 2012: a weighted mean of the local gradients, in which steep ones hardly count). Here
    rows are aligned first (`rows.terrace_rows`): slope_y is the trend of their shifts, steps along a row left out; slope_x is the
    mode of the height differences over 1, 2, 4, 8, 16 pixels of the aligned, Gaussian-blurred map, each of them found from the
    one before. The offset is the mean.
    """
    height = height.astype(np.float64)
    aligned, shifts = rows.terrace_rows(height)
    y, _ = middle_axes(height.shape)
    slope_y = (shifts - shifts.mean()) @ y / max(y @ y, 1.0)
    coefficients = np.array([height.mean(), slope_y, _common_slope(aligned)])
    return height - plane_surface(height.shape, *coefficients), coefficients


def _common_slope(height: np.ndarray) -> float:
    """Returns the commonest slope along x, per pixel."""
    blur = min(FACET_BLUR, height.shape[1] / 16)
    smooth = scipy.ndimage.gaussian_filter(height, blur, mode="nearest")
    edge = int(2 * blur)  # the blur flattens the border
    smooth = smooth[:: max(1, len(height) // 512), edge : height.shape[1] - edge]
    slope = None
    for lag in FACET_LAGS:
        if slope is not None and lag > smooth.shape[1] // 4:
            break
        slopes = (smooth[:, lag:] - smooth[:, :-lag]) / lag
        if not slopes.size:
            return 0.0
        slope = float(np.median(slopes)) if slope is None else slope
        spread = 1.4826 * float(np.median(np.abs(slopes - slope)))
        slope = float(rows.mode(slopes.ravel(), slope, FACET_SCALE * spread)[0])
    return slope
