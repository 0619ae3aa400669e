"""The specimen before any tip meets it: substrates, spherical caps, and where deposited particles come to lie. Lengths in nm."""

import math

import cv2
import numpy as np
import scipy.fft

from microscopy.scan import DataError

MAX_TRIES = 4000


def terraces(
    shape: tuple[int, int], nm_per_pixel: float, step_height: float, terrace_width: float, meander: float, random: np.random.Generator
) -> np.ndarray:
    """Returns a vicinal surface, (h, w) float64 in nm: flat terraces, each `step_height` above its neighbour.

    Steps run in a random direction; terrace widths are uniform in 0.5..1.5 of `terrace_width`; step edges wander by
    `meander` nm (rms) over distances of half a terrace. All heights are multiples of `step_height`, the lowest is 0.
    """
    y, x = (np.arange(size) * nm_per_pixel for size in shape)
    azimuth = random.uniform(0, 2 * math.pi)
    extent = y[-1] + x[-1]
    across = y[:, None] * math.sin(azimuth) + x[None, :] * math.cos(azimuth)
    coarse = [max(4, math.ceil(2 * size * nm_per_pixel / terrace_width) + 1) for size in shape]
    wander = cv2.resize(random.normal(size=coarse), shape[::-1], interpolation=cv2.INTER_CUBIC)
    across += wander * (meander / wander.std())
    num_steps = math.ceil(4 * (extent + 6 * meander) / terrace_width) + 10
    edges = np.cumsum(random.uniform(0.5, 1.5, num_steps)) * terrace_width - extent - 6 * meander - random.uniform(0, 2) * terrace_width
    steps = np.searchsorted(edges, across)
    return step_height * (steps - steps.min()).astype(np.float64)


def self_affine(
    shape: tuple[int, int], nm_per_pixel: float, hurst: float, roughness: float, correlation: float, random: np.random.Generator
) -> np.ndarray:
    """Returns a self-affine surface, (h, w) float64 in nm, mean 0 and rms `roughness`, periodic.

    Gaussian noise filtered in Fourier space: the power spectral density falls as q^(-2 (hurst + 1)) and is flat for
    wavelengths above `correlation` nm (Persson et al., J. Phys.: Condens. Matter 17, R1, 2005); 0 < hurst < 1.
    """
    frequency = np.hypot(*np.meshgrid(*(scipy.fft.fftfreq(size, nm_per_pixel) for size in shape), indexing="ij"))
    amplitude = np.maximum(frequency, 1 / correlation) ** -(hurst + 1)
    amplitude[0, 0] = 0
    heights = scipy.fft.ifft2(scipy.fft.fft2(random.normal(size=shape)) * amplitude).real
    return heights * (roughness / heights.std())


def cap_volume(diameter, height):
    """Returns the volume of a spherical cap, pi h (3 a^2 + h^2) / 6, with a the radius of its footprint; floats or arrays alike."""
    return math.pi * height * (0.75 * diameter**2 + height**2) / 6


def cap_profile(distance: np.ndarray, diameter: float, height: float) -> np.ndarray:
    """Returns the height of a spherical cap at each `distance` (nm) from its axis, 0 outside its footprint.

    `diameter` is the footprint's; a cap as high as its radius is a hemisphere, higher ones would overhang and are not made.
    """
    radius = (diameter**2 / 4 + height**2) / (2 * height)
    inside = distance < diameter / 2
    return np.where(inside, height - radius + np.sqrt(np.maximum(radius**2 - distance**2, 0)), 0.0)


def draw_diameters(area: float, coverage: float, median: float, geometric_sigma: float, random: np.random.Generator) -> np.ndarray:
    """Returns log-normal footprint diameters, float64 (n) in nm, as many as cover `coverage` of `area` nm^2 with their discs.

    The number is chosen so that the sum of the discs' areas comes nearest to coverage x area.
    """
    mean_disc = math.pi / 4 * median**2 * math.exp(2 * math.log(geometric_sigma) ** 2)
    enough = math.ceil(3 * coverage * area / mean_disc) + 20
    diameters = median * np.exp(math.log(geometric_sigma) * random.normal(size=enough))
    covered = np.concatenate([[0.0], np.cumsum(math.pi / 4 * diameters**2)])
    return diameters[: int(np.argmin(np.abs(covered - coverage * area)))]


def deposit(diameters: np.ndarray, extent: tuple[float, float], agglomerated: float, gap: float, random: np.random.Generator) -> np.ndarray:
    """Returns centres (n, 2), float64 (y, x) in nm, inside `extent` (y, x) nm, of discs that nowhere overlap.

    Each disc after the first is, with probability `agglomerated`, set to touch one that already lies there (the two
    footprints are tangent), otherwise at a random place at least `gap` nm from every other (random sequential adsorption).
    Raises DataError when a disc finds no place in `MAX_TRIES` tries.
    """
    centres = np.zeros((len(diameters), 2))
    for index, radius in enumerate(diameters / 2):
        touching = index > 0 and random.random() < agglomerated
        centres[index] = _free_place(radius, centres[:index], diameters[:index] / 2, extent, touching, gap, random)
    return centres


def _free_place(radius, centres, radii, extent, touching, gap, random) -> np.ndarray:
    """Returns a centre (y, x) for one disc among those that lie there already (see `deposit`)."""
    batch = 40
    for _ in range(MAX_TRIES // batch):
        neighbour = random.integers(len(centres), size=batch) if touching else None
        if touching:
            angle = random.uniform(0, 2 * math.pi, batch)
            reach = (radii[neighbour] + radius)[:, None]
            places = centres[neighbour] + reach * np.stack([np.sin(angle), np.cos(angle)], -1)
        else:
            places = random.uniform(0, 1, (batch, 2)) * extent
        room = np.linalg.norm(places[:, None] - centres[None], axis=-1) - radii - radius - (0 if touching else gap)
        if touching:
            room[np.arange(batch), neighbour] = 0
        free = (room >= 0).all(1) & ((places >= 0) & (places <= extent)).all(1)
        if free.any():
            return places[int(np.argmax(free))]
    raise DataError(
        f"{len(centres) + 1} particles find no place on {extent[0]:.0f} x {extent[1]:.0f} nm after {MAX_TRIES} tries.\n"
        "Lower coverage or gap_nm, or raise agglomerated."
    )


def add_caps(surface: np.ndarray, nm_per_pixel: float, centres: np.ndarray, diameters: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Returns `surface`, (h, w) in nm, with spherical caps on it, float64; pixel (i, j) lies at (i, j) x nm_per_pixel.

    `centres` (n, 2), footprint `diameters` (n) and `heights` (n) in nm. A cap is rigid and rests at the substrate's height under
    its centre, so substrate that rises above it within the footprint stays visible.
    """
    covered = surface.astype(np.float64)
    last = np.array(surface.shape) - 1
    for centre, diameter, height in zip(centres, diameters, heights, strict=True):
        low = np.maximum(np.floor((centre - diameter / 2) / nm_per_pixel), 0).astype(int)
        high = np.minimum(np.ceil((centre + diameter / 2) / nm_per_pixel), last).astype(int) + 1
        if (low >= high).any():
            continue
        window = tuple(map(slice, low, high))
        y, x = (np.arange(a, b) * nm_per_pixel - c for a, b, c in zip(low, high, centre, strict=True))
        profile = cap_profile(np.hypot(y[:, None], x[None, :]), diameter, height)
        base = surface[tuple(np.clip(np.rint(centre / nm_per_pixel).astype(int), 0, last))]
        covered[window] = np.where(profile > 0, np.maximum(covered[window], base + profile), covered[window])
    return covered
