"""Frames of a nuclear emulsion under a transmitted-light microscope: silver grains along tracks, fog, depth blur; from a seed."""

import dataclasses
import hashlib
import math

import cv2
import numpy as np

from microscopy.scan import DataError, Scan

GRAIN = np.dtype([*((name, np.float64) for name in ("y_um", "x_um", "z_um", "radius_um")), ("track", np.int32)])
_BLUR_STEP = 1.4


@dataclasses.dataclass(frozen=True)
class EmulsionSettings:
    """Every parameter of the simulated emulsion and microscope. Lengths in um, unless a name says px or nm.

    Frame: `size_px` (h, w) pixels of `nm_per_pixel`; focal plane z = 0 (stacks: planes `plane_spacing` apart around it), emulsion from
    -`thickness` / 2 to `thickness` / 2.
    Tracks: `num_tracks` a frame (Poisson mean) through random points of the emulsion, in random directions, at most `dip_degrees` out of
    the plane (uniform), with radius of curvature `curvature_radius` or more in the plane (inf: straight); all cross the whole frame.
    `grains_per_100um` of developed grains along it (Poisson), each beside the line by `scatter` (rms, each of two directions).
    Fog: `fog_per_1000um3` grains anywhere. All grains: spheres with radius uniform in `grain_radius` (low, high) that let `transmission`
    of the light pass through their middle, as opaque silver of that disc does.
    Microscope: point spread a Gaussian, sigma^2 = `focus_sigma`^2 + (`blur_per_um` |z|)^2 (um; the grain's absorbance is spread, none of it
    is lost). Truth: grains within `depth_of_field` / 2 of the focal plane are in focus; the mask is where those of tracks alone would let
    the share `visible` of the light or less through. At the default a grain at that border takes 6 % of the light away; with 3 um it
    would be 15 %, and the mask would hang on what no image shows: another tenth of the depth changes 5 % of the union, now less than 2 %.
    Camera, 8 bit: `background` grey levels at most, falling towards the corners by the share `shading` and to one side by up to half of it;
    `full_well` electrons at level 255 (shot noise), `read_noise` electrons rms.
    Raises DataError naming the field that is out of its range.
    """

    size_px: tuple[int, int] = (1024, 1280)
    nm_per_pixel: float = 150.0
    thickness: float = 16.0
    plane_spacing: float = 1.0
    num_tracks: float = 40.0
    dip_degrees: float = 15.0
    curvature_radius: float = 2000.0
    grains_per_100um: float = 60.0
    scatter: float = 0.1
    fog_per_1000um3: float = 0.5
    grain_radius: tuple[float, float] = (0.4, 0.5)
    transmission: float = 0.15
    focus_sigma: float = 0.2
    blur_per_um: float = 0.7
    depth_of_field: float = 5.0
    visible: float = 0.6
    background: float = 200.0
    shading: float = 0.3
    full_well: float = 20000.0
    read_noise: float = 20.0

    def __post_init__(self):
        _check(self)


def _check(settings: EmulsionSettings) -> None:
    """Raises DataError for the first field that is out of its range."""
    size, radius = settings.size_px, settings.grain_radius
    rules = {
        name: (0 < getattr(settings, name) < math.inf, "above 0")
        for name in ("nm_per_pixel", "thickness", "plane_spacing", "focus_sigma", "depth_of_field", "full_well")
    }
    rules |= {
        "size_px": (len(size) == 2 and min(size) >= 8 and max(size) <= 16384, "two numbers (h, w) in 8..16384"),
        "num_tracks": (0 <= settings.num_tracks <= 10000, "in 0..10000"),
        "dip_degrees": (0 <= settings.dip_degrees < 90, "from 0 to below 90"),
        "curvature_radius": (settings.curvature_radius > 0, "above 0, or inf"),
        "grains_per_100um": (0 <= settings.grains_per_100um <= 1000, "in 0..1000"),
        "fog_per_1000um3": (0 <= settings.fog_per_1000um3 <= 1000, "in 0..1000"),
        "grain_radius": (len(radius) == 2 and 0 < radius[0] <= radius[-1] <= 5, "(low, high) with 0 < low <= high <= 5"),
        "transmission": (0 < settings.transmission < 1, "above 0 and below 1"),
        "visible": (0 < settings.visible < 1, "above 0 and below 1"),
        "background": (0 < settings.background <= 255, "above 0, at most 255"),
        "shading": (0 <= settings.shading < 0.6, "from 0 to below 0.6"),
    }
    for field in dataclasses.fields(settings):
        if field.name not in rules:
            rules[field.name] = (0 <= getattr(settings, field.name) < math.inf, "0 or more")
    for name, (kept, wanted) in rules.items():
        if not kept:
            raise DataError(f"emulsion setting {name} = {getattr(settings, name)!r}: it must be {wanted}.")


@dataclasses.dataclass(frozen=True)
class Frames:
    """`pixels` uint8 (d, h, w), the truth `mask` int32 (d, h, w) and `grains`, all of the emulsion, of dtype `GRAIN`.

    `grains` have the place in um (pixel centre 0 is 0; it may lie outside the frame), radius and the number of their track, 0 for fog.
    `mask` is where the track grains in focus, seen without anything else and without noise, let through `visible` of the light or less;
    the number is the track's whose grain in focus is nearest. It is 0 elsewhere, on fog and on grains out of focus.
    """

    pixels: np.ndarray
    mask: np.ndarray
    grains: np.ndarray


def plane_depths(settings: EmulsionSettings, num_planes: int) -> np.ndarray:
    """Returns z in um of each plane of a stack, (d,) float64, around 0."""
    return (np.arange(num_planes) - (num_planes - 1) / 2) * settings.plane_spacing


def simulate_frames(settings: EmulsionSettings, seed: int | tuple[int, ...], num_planes: int = 1) -> Frames:
    """Returns one frame, or a z-stack of one field of view, with its truth; the same arguments give the same bytes on one machine.

    One plane lies at z = 0. `seed` is a number of 0 or more, or a tuple of them. Raises DataError for less than one plane.
    """
    if num_planes < 1:
        raise DataError(f"num_planes = {num_planes}: 1 or more")
    grain_random, light_random, *noise_randoms = np.random.default_rng(seed).spawn(2 + num_planes)
    grains = draw_grains(settings, grain_random)
    light = illumination(settings, light_random)
    pixels, masks = [], []
    for depth, random in zip(plane_depths(settings, num_planes), noise_randoms, strict=True):
        intensity = light * np.exp(-absorbance(settings, grains, depth))
        pixels.append(_recorded(settings, intensity, random))
        masks.append(focus_mask(settings, grains, depth))
    return Frames(np.stack(pixels), np.stack(masks), grains)


def draw_grains(settings: EmulsionSettings, random: np.random.Generator) -> np.ndarray:
    """Returns the grains of tracks and fog, dtype `GRAIN`, that reach into the frame's field of view with their blur."""
    extent = np.array(settings.size_px) * settings.nm_per_pixel / 1000
    margin = settings.grain_radius[1] + 3 * math.hypot(settings.focus_sigma, settings.blur_per_um * settings.thickness)
    half = settings.thickness / 2
    places, tracks = [], []
    reach = math.hypot(*extent) + 2 * margin
    for track in range(1, random.poisson(settings.num_tracks) + 1):
        points = _track(settings, extent, reach, random)
        places.append(points)
        tracks.append(np.full(len(points), track))
    volume = np.prod(extent + 2 * margin) * settings.thickness
    num_fog = random.poisson(volume * settings.fog_per_1000um3 / 1000)
    places.append(random.uniform([-margin, -margin, -half], [*(extent + margin), half], (num_fog, 3)))
    tracks.append(np.zeros(num_fog))
    place, track = np.concatenate(places), np.concatenate(tracks)
    inside = ((place[:, :2] >= -margin) & (place[:, :2] <= extent + margin)).all(1) & (abs(place[:, 2]) <= half)
    grains = np.zeros(int(inside.sum()), GRAIN)
    grains["y_um"], grains["x_um"], grains["z_um"] = place[inside].T
    grains["track"] = track[inside]
    grains["radius_um"] = random.uniform(*settings.grain_radius, len(grains))
    return grains


def _track(settings: EmulsionSettings, extent: np.ndarray, reach: float, random: np.random.Generator) -> np.ndarray:
    """Places (n, 3) as (y, x, z) of one track's grains; the track reaches `reach` um to both sides of its point in the frame."""
    start = np.array([*random.uniform(0, extent), random.uniform(-settings.thickness / 2, settings.thickness / 2)])
    azimuth = random.uniform(0, 2 * math.pi)
    dip = math.radians(random.uniform(-settings.dip_degrees, settings.dip_degrees))
    bend = random.uniform(-1, 1) / settings.curvature_radius
    num = random.poisson(2 * reach * settings.grains_per_100um / 100)
    along = random.uniform(-reach, reach, num)
    flat = along * math.cos(dip)
    # A parabola: the circle's osculating curve, of which only the frame's stretch is seen.
    aside = 0.5 * bend * flat**2
    sine, cosine = math.sin(azimuth), math.cos(azimuth)
    line = np.stack([flat * sine + aside * cosine, flat * cosine - aside * sine, along * math.sin(dip)], -1)
    return start + line + settings.scatter * random.normal(size=line.shape)


def _windows(settings: EmulsionSettings, grains: np.ndarray, reach_um: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(pixel rows, columns, distance from the grain's centre in um), each (n, k, k), of a window around every grain."""
    scale = settings.nm_per_pixel / 1000
    reach = math.ceil(reach_um / scale) + 1
    step = np.arange(-reach, reach + 1)
    centre = np.stack([grains["y_um"], grains["x_um"]], -1) / scale
    nearest = np.rint(centre).astype(np.int64)
    y = nearest[:, 0, None, None] + step[:, None] + 0 * step
    x = nearest[:, 1, None, None] + step + 0 * step[:, None]
    return y, x, np.hypot(y - centre[:, 0, None, None], x - centre[:, 1, None, None]) * scale


def absorbance(settings: EmulsionSettings, grains: np.ndarray, depth: float) -> np.ndarray:
    """Returns -ln of the light that the grains let through, focused at `depth` um: float32 (h, w), before illumination and noise.

    Each grain is a disc of absorbance -ln(transmission), its border antialiased, blurred by a mixture of the two Gaussians of a fixed
    scale of sigmas between which its own lies, so that the variance is its own.
    """
    height, width = settings.size_px
    scale = settings.nm_per_pixel / 1000
    sigma = np.hypot(settings.focus_sigma, settings.blur_per_um * (grains["z_um"] - depth))
    steps = np.log(sigma / settings.focus_sigma) / math.log(_BLUR_STEP)
    below = np.floor(steps + 1e-9).astype(int)
    ends = settings.focus_sigma * _BLUR_STEP ** np.stack([below, below + 1]).astype(float)
    above = np.clip((sigma**2 - ends[0] ** 2) / (ends[1] ** 2 - ends[0] ** 2), 0, 1)
    pad = math.ceil((3 * ends.max(initial=0) + settings.grain_radius[1]) / scale) + 2
    y, x, distance = _windows(settings, grains, settings.grain_radius[1])
    cover = np.clip((grains["radius_um"][:, None, None] - distance) / scale + 0.5, 0, 1)
    y, x = y + pad, x + pad
    total = np.zeros((height + 2 * pad, width + 2 * pad), np.float32)
    for level in range(below.max(initial=-1) + 2):
        share = np.where(below == level, 1 - above, 0) + np.where(below == level - 1, above, 0)
        mine = np.flatnonzero(share)
        kept = (y[mine] >= 0) & (y[mine] < total.shape[0]) & (x[mine] >= 0) & (x[mine] < total.shape[1])
        place = y[mine][kept] * total.shape[1] + x[mine][kept]
        layer = np.bincount(place, (cover[mine] * share[mine, None, None])[kept], total.size).astype(np.float32).reshape(total.shape)
        total += cv2.GaussianBlur(layer, (0, 0), settings.focus_sigma * _BLUR_STEP**level / scale)
    return -math.log(settings.transmission) * total[pad : pad + height, pad : pad + width]


def focus_mask(settings: EmulsionSettings, grains: np.ndarray, depth: float) -> np.ndarray:
    """Returns the mask of `Frames` for the focal plane at `depth` um: int32 (h, w)."""
    height, width = settings.size_px
    half = settings.depth_of_field / 2
    mine = grains[(grains["track"] > 0) & (abs(grains["z_um"] - depth) <= half)]
    seen = np.exp(-absorbance(settings, mine, depth)) <= settings.visible
    y, x, distance = _windows(settings, mine, settings.grain_radius[1] + 3 * math.hypot(settings.focus_sigma, settings.blur_per_um * half))
    kept = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    kept[kept] = seen[y[kept], x[kept]]
    tracks = np.broadcast_to(mine["track"][:, None, None], y.shape)[kept]
    order = np.argsort(-distance[kept], kind="stable")  # the nearest is written last
    mask = np.zeros(settings.size_px, np.int32)
    mask[y[kept][order], x[kept][order]] = tracks[order]
    return mask


def illumination(settings: EmulsionSettings, random: np.random.Generator) -> np.ndarray:
    """Returns the grey levels of an empty frame, float32 (h, w): `background` at most, darker off a random centre and to one side."""
    height, width = settings.size_px
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    centre, slope = random.uniform(-0.3, 0.3, 2), random.uniform(-0.5, 0.5, 2)
    fall = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / 2 + (slope[0] * y + slope[1] * x) / 2
    fall = settings.shading * (fall - fall.min())
    return (settings.background * np.clip(1 - fall, 0, 1)).astype(np.float32)


def _recorded(settings: EmulsionSettings, intensity: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """8 bit grey levels of an ideal frame; shot noise as a Gaussian of the same variance, which it is from tens of electrons on."""
    gain = settings.full_well / 255
    deviation = np.sqrt(intensity * gain + settings.read_noise**2) / gain
    noise = random.standard_normal(intensity.shape, np.float32) * deviation.astype(np.float32)
    return np.clip(np.rint(intensity + noise), 0, 255).astype(np.uint8)


def emulsion_scans(settings: EmulsionSettings, num_scans: int = 40, seed: int = 0, num_planes: int = 0) -> list[Scan]:
    """Returns `num_scans` frames `emulsion_000`.. in grey levels, with scale and mask; scan i depends on (settings, seed, i) only.

    With `num_planes` they are stacks: pixels and mask are (h, w, num_planes).
    """
    scale = (settings.nm_per_pixel, settings.nm_per_pixel)
    scans = []
    for index in range(num_scans):
        frames = simulate_frames(settings, (seed, index), num_planes or 1)
        pixels, mask = (np.ascontiguousarray(np.moveaxis(one, 0, -1)) if num_planes else one[0] for one in (frames.pixels, frames.mask))
        digest = hashlib.sha256(pixels.tobytes()).hexdigest()
        scans.append(Scan(f"emulsion_{index:03d}", pixels, digest, unit="grey", nm_per_pixel=scale, mask=mask))
    return scans
