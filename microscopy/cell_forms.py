"""Outlines and textures of stained cells, of which microscopy.cells makes pictures: signed distances, patterns of mean 1."""

import math

import numpy as np

FORMS = ("elongated", "kidney", "lobed", "round")


def segment(y: np.ndarray, x: np.ndarray, start, end) -> np.ndarray:
    """Returns the distance of each place (y, x) from the straight line between two points (y, x); all in one unit."""
    (y0, x0), (dy, dx) = start, np.subtract(end, start)
    along = np.clip(((y - y0) * dy + (x - x0) * dx) / max(dy**2 + dx**2, 1e-12), 0, 1)
    return np.hypot(y - y0 - along * dy, x - x0 - along * dx)


def ellipse(y: np.ndarray, x: np.ndarray, aspect: float) -> np.ndarray:
    """Returns about the distance outside (negative inside) of an ellipse of area pi, longer along x by `aspect`; its zero is exact."""
    along, across = x / math.sqrt(aspect), y * math.sqrt(aspect)
    radius = np.hypot(along, across)
    slope = np.hypot(along / math.sqrt(aspect), across * math.sqrt(aspect)) / np.maximum(radius, 1e-6)
    return (radius - 1) / np.maximum(slope, 1e-3)


def wobble(y: np.ndarray, x: np.ndarray, random: np.random.Generator, size: float) -> np.ndarray:
    """Returns a smooth function of the polar angle, waves 2 to 5, each at most `size`: what makes an outline irregular."""
    angle = np.arctan2(y, x)
    waves = zip(range(2, 6), random.uniform(-size, size, 4), random.uniform(0, 2 * math.pi, 4), strict=True)
    return sum(high * np.cos(number * angle + phase) / (number - 1) for number, high, phase in waves)


def make_nucleus(form: str, random: np.random.Generator):
    """Returns outline(y, x): about the distance outside the nucleus, negative inside, of one of `FORMS`, of the order of 1 across.

    elongated: an ellipse 2.6 to 3.4 times as long as wide. kidney: a thick arc around a notch. lobed: 3 to 5 discs side by side on an
    arc, joined by threads. round: an ellipse of 1 to 1.15.
    """
    if form == "kidney":
        return _kidney(random)
    if form == "lobed":
        return _lobes(random)
    aspect = random.uniform(2.6, 3.4) if form == "elongated" else random.uniform(1.0, 1.15)
    seed = random.integers(2**32)
    size = 0.04 if form == "elongated" else 0.02
    return lambda y, x: ellipse(y, x, aspect) + wobble(y, x, np.random.default_rng(seed), size)


def _kidney(random: np.random.Generator):
    half, width = math.radians(random.uniform(80, 105)), random.uniform(0.40, 0.47)
    radius = 0.68

    def outline(y, x):
        angle = np.clip(np.arctan2(y, x), -half, half)
        # Beyond the arc's ends it is the distance from the end; the middle lies at x = radius, hence the shift.
        return np.hypot(y - radius * np.sin(angle), x - radius * np.cos(angle)) - width

    return lambda y, x: outline(y, x + 0.25)


def _lobes(random: np.random.Generator):
    num = int(random.integers(3, 6))
    spread = math.radians({3: 190, 4: 235, 5: 280}[num])
    angles = np.linspace(-spread / 2, spread / 2, num) + random.uniform(-0.1, 0.1, num)
    far = random.uniform(0.9, 1.05, num)
    centres = np.stack([far * np.sin(angles), far * np.cos(angles)], -1)
    radii = random.uniform(0.32, 0.42, num)

    def outline(y, x):
        discs = [np.hypot(y - cy, x - cx) - r for (cy, cx), r in zip(centres, radii, strict=True)]
        threads = [segment(y, x, *ends) - 0.07 for ends in zip(centres[:-1], centres[1:], strict=True)]
        return np.minimum.reduce(discs + threads)

    return outline


def filtered(noise: np.ndarray, sigma: float | tuple[float, float], angle: float = 0.0) -> np.ndarray:
    """Returns the image (h, w) blurred by a Gaussian, sigma in px along (first, second) axis turned by `angle`; borders wrap around."""
    first, second = (sigma, sigma) if np.isscalar(sigma) else sigma
    fy, fx = np.fft.fftfreq(noise.shape[0])[:, None], np.fft.rfftfreq(noise.shape[1])
    along, across = fx * math.cos(angle) + fy * math.sin(angle), fy * math.cos(angle) - fx * math.sin(angle)
    transfer = np.exp(-2 * math.pi**2 * ((along * first) ** 2 + (across * second) ** 2))
    return np.fft.irfft2(np.fft.rfft2(noise) * transfer, s=noise.shape)


def _grains(shape: tuple[int, int], sigma, random: np.random.Generator, angle: float = 0.0) -> np.ndarray:
    """Blurred noise of mean 0 and deviation 1."""
    grain = filtered(random.standard_normal(shape), sigma, angle)
    return (grain - grain.mean()) / grain.std()


def chromatin(form: str, shape: tuple[int, int], px_per_um: float, angle: float, random: np.random.Generator) -> np.ndarray:
    """Returns the density pattern (h, w) of a nucleus, above 0, of mean about 1.

    elongated: streaks along `angle`. kidney: a fine lace of bright threads. lobed: nearly even. round: coarse dark clumps.
    """
    if form == "elongated":
        pattern = 0.28 * _grains(shape, (1.4 * px_per_um, 0.22 * px_per_um), random, angle)
    elif form == "kidney":
        pattern = 0.3 * (np.abs(_grains(shape, 0.32 * px_per_um, random)) * 1.66 - 1.32)
    elif form == "lobed":
        pattern = 0.05 * _grains(shape, 0.5 * px_per_um, random)
    else:
        pattern = 0.3 * np.tanh(2.5 * _grains(shape, 0.62 * px_per_um, random))
    return np.clip(1 + pattern, 0.2, None)


def cytoplasm(form: str, shape: tuple[int, int], px_per_um: float, random: np.random.Generator) -> np.ndarray:
    """Returns the density pattern (h, w) of a cytoplasm, 0 or above, of mean about 1.

    elongated: coarse granules, few. kidney: holes (vacuoles). lobed: fine granules, many. round: even.
    """
    even = 1 + 0.06 * _grains(shape, 0.8 * px_per_um, random)
    if form == "round":
        return even
    size, level, depth = {"elongated": (0.34, 1.75, 2.6), "kidney": (0.42, 1.55, -0.95), "lobed": (0.15, 0.85, 1.6)}[form]
    spots = 1 / (1 + np.exp(-8 * (_grains(shape, size * px_per_um, random) - level)))
    return np.clip(even * (1 + depth * (spots - spots.mean())), 0, None)
