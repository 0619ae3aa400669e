"""A scanning tunnelling microscope on the host: labelled scans of nanoparticles on a substrate, in nm, from a seed."""

import dataclasses
import hashlib
import math

import numpy as np

from microscopy import acquisition, surfaces, tip
from microscopy.scan import DataError, Scan

LENGTHS = ("y_nm", "x_nm", "diameter_nm", "height_nm", "volume_nm3")
PARTICLE = np.dtype([("label", np.int32), *((name, np.float64) for name in LENGTHS), ("whole", np.bool_)])
SUBSTRATES = ("flat", "terraces", "self_affine")


@dataclasses.dataclass(frozen=True)
class SimulatorSettings:
    """Every parameter of the simulated specimen, tip and scan. Lengths and heights in nm.

    Scan: `size_px` (h, w) pixels, square, `nm_per_pixel`.
    Substrate "flat"; "terraces": `step_height` (0.335 is one graphite layer), mean `terrace_width`, `step_meander` (rms);
    "self_affine": `hurst` exponent 0..1, rms `roughness`, flat spectrum above wavelength `correlation_length`.
    Particles: spherical caps, footprint diameters log-normal with `median_diameter` and `geometric_sigma`; height over
    diameter uniform in `height_ratio` (0.5 is a hemisphere); `coverage` of the area by footprints; the share `agglomerated`
    touches another particle, the others keep `gap` from all that lie there before them.
    Tip: paraboloid with apex radius `tip_radius`; 0 is a perfect tip.
    Scan errors: `drift` up to this far in y and in x from first to last line (uniform); `tilt_degrees` at most; `line_offset`
    (rms, Gaussian, per line); `flicker` (rms) with power ~ f^-`flicker_exponent` in time; `white_noise` (rms per pixel);
    `num_spikes` a scan (Poisson mean) with mean `spike_height` and mean `spike_length` along the fast axis.
    Raises DataError naming the field that is out of its range.
    """

    size_px: tuple[int, int] = (512, 512)
    nm_per_pixel: float = 0.25
    substrate: str = "terraces"
    step_height: float = 0.335
    terrace_width: float = 40.0
    step_meander: float = 2.0
    hurst: float = 0.7
    roughness: float = 0.4
    correlation_length: float = 40.0
    median_diameter: float = 9.0
    geometric_sigma: float = 1.25
    height_ratio: tuple[float, float] = (0.3, 0.5)
    coverage: float = 0.18
    agglomerated: float = 0.3
    gap: float = 2.0
    tip_radius: float = 4.0
    drift: float = 3.0
    tilt_degrees: float = 1.0
    line_offset: float = 0.3
    flicker: float = 0.4
    flicker_exponent: float = 1.0
    white_noise: float = 0.1
    num_spikes: float = 30.0
    spike_height: float = 1.5
    spike_length: float = 2.0

    def __post_init__(self):
        _check(self)


def _check(settings: SimulatorSettings) -> None:
    """Raises DataError for the first field that is out of its range."""
    ratio = settings.height_ratio
    quarter = min(settings.size_px) * settings.nm_per_pixel / 4
    rules = {
        name: (0 < getattr(settings, name) < math.inf, "above 0")
        for name in ("nm_per_pixel", "terrace_width", "correlation_length", "median_diameter")
    }
    rules |= {
        "size_px": (len(settings.size_px) == 2 and min(settings.size_px) >= 8, "two numbers (h, w) of at least 8"),
        "substrate": (settings.substrate in SUBSTRATES, "one of " + ", ".join(SUBSTRATES)),
        "hurst": (0 < settings.hurst < 1, "above 0 and below 1"),
        "geometric_sigma": (1 <= settings.geometric_sigma <= 3, "in 1..3"),
        "height_ratio": (len(ratio) == 2 and 0 < ratio[0] <= ratio[-1] <= 0.5, "(low, high) with 0 < low <= high <= 0.5"),
        "coverage": (0 <= settings.coverage <= 0.5, "in 0..0.5"),
        "agglomerated": (0 <= settings.agglomerated <= 1, "in 0..1"),
        "tilt_degrees": (0 <= settings.tilt_degrees < 45, "in 0..45"),
        "drift": (0 <= settings.drift <= quarter, "from 0 to a quarter of the scan's shorter side"),
    }
    for field in dataclasses.fields(settings):
        if field.name not in rules:
            rules[field.name] = (0 <= getattr(settings, field.name) < math.inf, "0 or more")
    for name, (kept, wanted) in rules.items():
        if not kept:
            raise DataError(f"simulator setting {name} = {getattr(settings, name)!r}: it must be {wanted}.")


@dataclasses.dataclass(frozen=True)
class Simulated:
    """A scan and the truth about it.

    `height` float32 (h, w) in nm as recorded, not levelled. `mask` int32 (h, w): 0 substrate, n the true footprint of the
    particle with label n (what the tip adds around it is not part of it). `particles` has dtype `PARTICLE`, row n - 1 for
    label n: centre as it appears in the scan (pixel index x nm_per_pixel; may lie outside), true footprint diameter, height
    and volume of the whole cap; `whole` is False where the border cuts the footprint.
    """

    height: np.ndarray
    mask: np.ndarray
    particles: np.ndarray


def simulate_scan(settings: SimulatorSettings, seed: int | tuple[int, ...]) -> Simulated:
    """Returns one scan with its truth; the same settings and seed give the same bytes (same machine, same library versions).

    Specimen -> dilation by the tip -> drift -> tilt, line offsets, 1/f noise, white noise, spikes. Footprints drift with the
    heights. `seed` is a number of 0 or more, or a tuple of them. Raises DataError when the particles find no place.
    """
    specimen_random, scan_random = np.random.default_rng(seed).spawn(2)
    drift = scan_random.uniform(-1, 1, 2) * settings.drift / settings.nm_per_pixel
    # Wide enough that particles outside the frame reach into it as they would on an endless specimen; the same for all
    # ordinary tips, so that another tip scans the same specimen.
    largest = settings.median_diameter * settings.geometric_sigma**3
    reach = largest / 2 + max(largest, math.sqrt(settings.tip_radius * largest)) + settings.drift
    margin = math.ceil(reach / settings.nm_per_pixel)
    size = tuple(pixels + 2 * margin + 1 for pixels in settings.size_px)
    motion = (settings.size_px, np.array([margin, margin]), drift)
    surface, table = _specimen(settings, size, specimen_random)
    surface = tip.dilate(surface, settings.nm_per_pixel, settings.tip_radius)
    height = acquisition.drifted(surface, *motion) + _scan_errors(settings, scan_random)
    centres = np.stack([table["y_nm"], table["x_nm"]], -1) / settings.nm_per_pixel
    footprints = acquisition.drifted_discs(centres, table["diameter_nm"] / settings.nm_per_pixel, *motion)
    table["y_nm"], table["x_nm"] = acquisition.undrift(centres, *motion).T * settings.nm_per_pixel
    return Simulated(height.astype(np.float32), *_seen(footprints, table))


def _specimen(settings: SimulatorSettings, size: tuple[int, int], random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns (heights float64, table of particles with their places on the specimen) of an area of `size` pixels."""
    scale = settings.nm_per_pixel
    substrate_random, particle_random = random.spawn(2)
    if settings.substrate == "terraces":
        steps = (settings.step_height, settings.terrace_width, settings.step_meander)
        substrate = surfaces.terraces(size, scale, *steps, substrate_random)
    elif settings.substrate == "self_affine":
        spectrum = (settings.hurst, settings.roughness, settings.correlation_length)
        substrate = surfaces.self_affine(size, scale, *spectrum, substrate_random)
    else:
        substrate = np.zeros(size)
    extent = (size[0] * scale, size[1] * scale)
    lognormal = (settings.median_diameter, settings.geometric_sigma)
    diameters = surfaces.draw_diameters(extent[0] * extent[1], settings.coverage, *lognormal, particle_random)
    centres = surfaces.deposit(diameters, extent, settings.agglomerated, settings.gap, particle_random)
    heights = diameters * particle_random.uniform(*settings.height_ratio, len(diameters))
    table = np.zeros(len(diameters), PARTICLE)
    table["y_nm"], table["x_nm"] = centres[:, 0], centres[:, 1]
    table["diameter_nm"], table["height_nm"], table["volume_nm3"] = diameters, heights, surfaces.cap_volume(diameters, heights)
    return surfaces.add_caps(substrate, scale, centres, diameters, heights), table


def _scan_errors(settings: SimulatorSettings, random: np.random.Generator) -> np.ndarray:
    """Returns what is added to the heights after the tip, (h, w) float64 in nm."""
    shape, scale = settings.size_px, settings.nm_per_pixel
    added = acquisition.tilted_plane(shape, scale, settings.tilt_degrees, random)
    added += settings.line_offset * random.normal(size=(shape[0], 1))
    added += acquisition.flicker(shape, settings.flicker, settings.flicker_exponent, random)
    added += settings.white_noise * random.normal(size=shape)
    return added + acquisition.spikes(shape, scale, settings.num_spikes, settings.spike_height, settings.spike_length, random)


def _seen(footprints: np.ndarray, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (mask with labels 1..n without gaps, the table's rows of those n particles, in the same order)."""
    labels = np.unique(footprints)
    labels = labels[labels > 0]
    number = np.zeros(len(table) + 1, np.int32)
    number[labels] = np.arange(1, len(labels) + 1)
    mask, particles = number[footprints], table[labels - 1]
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    particles["label"] = np.arange(1, len(labels) + 1)
    particles["whole"] = ~np.isin(particles["label"], border)
    return mask, particles


def simulated_scans(settings: SimulatorSettings, num_scans: int = 40, seed: int = 0) -> list[Scan]:
    """Returns `num_scans` scans `simulated_000`.. with heights in nm, scale and mask; scan i depends on (settings, seed, i) only.

    SHA-256 of the pixel bytes, no file, no group: each scan is a specimen of its own. Raises DataError as `simulate_scan`.
    """
    scans = []
    for index in range(num_scans):
        simulated = simulate_scan(settings, (seed, index))
        scans.append(
            Scan(
                id=f"simulated_{index:03d}",
                pixels=simulated.height,
                sha256=hashlib.sha256(simulated.height.tobytes()).hexdigest(),
                unit="nm",
                nm_per_pixel=(settings.nm_per_pixel, settings.nm_per_pixel),
                channel="height",
                mask=simulated.mask,
            )
        )
    return scans
