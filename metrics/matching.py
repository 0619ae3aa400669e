"""Where in a set of scans an image is found again, turned by any angle, mirrored, shifted: all places and turns, then the best finely."""

import functools
from typing import NamedTuple

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage

from microscopy.scan import DataError

SMALLEST = 8
SIDE = 32  # pixels the image is reduced to while all places and turns are tried
NUM_TURNS = 72
CHUNK_PLACES, CHUNK_IMAGES, CHUNK_FITS = 512, 64, 64
BLOCK = 512
KEPT, KEPT_SHARP = 12, 4
ITERATIONS = 6
FLAT = 1e-5  # of a scan's standard deviation (scans are standardised): below it is rounding


class Places(NamedTuple):
    """The best place of each image, arrays (n).

    `similarity` float64, -1..1; `scan` int64; `y`, `x` float64, the centre in the scan's pixels; `angle` float64, degrees in 0..360;
    `mirrored` bool. The image's pixel at (dy, dx) from its centre, dx negated where mirrored, lies in the scan at
    (y + dy cos + dx sin, x + dx cos - dy sin).
    """

    similarity: np.ndarray
    scan: np.ndarray
    y: np.ndarray
    x: np.ndarray
    angle: np.ndarray
    mirrored: np.ndarray


def find_places(images: np.ndarray, scans: list[np.ndarray]) -> Places:
    """Returns the place of each image (n, s, s) in the scans, a list of (h, w) of the same pixel size, that is most like it.

    Likeness is the normalised cross-correlation over the disc inscribed in the image, so that it fits at any angle, after the surface
    of second degree (tilt, bow, uneven light) is taken off both: 1 for a copy of any gain and offset, negative for inverted contrast, 0
    where either is flat. The disc lies inside the scan; scans smaller than the image are left out. Images are reduced to 32
    pixels and correlated at every place with all 72 turns of 5 degrees at once, on rings by circular harmonics (Hsu and Arsenault,
    Applied Optics 21, 4016, 1982), normalised at each place (Lewis, Vision Interface 1995). The 12 best places are fitted in
    shift and angle, blurred and then sharp, by Gauss-Newton with gain and offset (after Evangelidis and Psarakis, IEEE TPAMI 30, 1858,
    2008), bilinear between pixels. An image's place does not depend on the other images. Raises DataError for images under 8 pixels and
    when no scan is as large as the images.
    """
    size = images.shape[1]
    if size < SMALLEST:
        raise DataError(f"images of {size} pixels: at least {SMALLEST} are needed to tell a copy.")
    large = [index for index, scan in enumerate(scans) if min(scan.shape) >= size]
    if not large:
        raise DataError(f"images of {size} pixels are larger than every training scan at their scale: check `scale`.")
    images = _standardised(np.asarray(images, np.float32), (1, 2))
    scans = [_standardised(np.asarray(scans[index], np.float32), None) for index in large]
    # In blocks: the similarities of all images at all places of a scan would not fit.
    blocks = [_find(images[start : start + BLOCK], scans) for start in range(0, len(images), BLOCK)]
    places = Places(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))
    return places._replace(scan=np.array(large)[places.scan])


def _find(images: np.ndarray, scans: list[np.ndarray]) -> Places:
    images = np.concatenate([images, images[:, :, ::-1]])  # a mirrored copy is a copy of the mirror image
    similarity, placed, scan, which = _fitted(images, scans, *_starts(images, scans))
    angle, mirrored = np.degrees(placed[:, 2]) % 360, which >= len(images) // 2
    return Places(np.clip(similarity, -1, 1), scan, placed[:, 0], placed[:, 1], angle, mirrored)


def _standardised(values: np.ndarray, axes) -> np.ndarray:
    values = values - values.mean(axis=axes, keepdims=True, dtype=np.float64)
    spread = values.std(axis=axes, keepdims=True)
    return (values / np.where(spread > 0, spread, 1)).astype(np.float32)


def _small(values: np.ndarray, factor: float) -> np.ndarray:
    """Returns (h, w) reduced by `factor`, blurred by most of a new pixel: a copy half a pixel off the grid must still be alike."""
    height, width = (max(1, round(side / factor)) for side in values.shape)
    values = cv2.resize(np.ascontiguousarray(values), (width, height), interpolation=cv2.INTER_AREA) if factor > 1 else values
    return scipy.ndimage.gaussian_filter(values, 0.7, mode="nearest")


@functools.cache
def _rings(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (bilinear weights (side^2, rings * turns) of points on rings about the centre, each ring's weight (rings), `_surfaces`)."""
    radii = (np.arange(side // 2) + 0.5) * ((side - 1) / 2) / (side // 2)
    angles = np.arange(NUM_TURNS) * (2 * np.pi / NUM_TURNS)
    offsets = [np.multiply.outer(radii, along(angles)).ravel() for along in (np.sin, np.cos)]
    weights = radii / radii.sum() / NUM_TURNS
    surfaces = _surfaces(*offsets, np.repeat(np.sqrt(weights), NUM_TURNS))
    pixels = np.arange(side)[:, None]
    rows, columns = (np.maximum(0, 1 - np.abs(pixels - np.clip((side - 1) / 2 + offset, 0, side - 1))) for offset in offsets)
    return (rows[:, None] * columns[None]).reshape(side**2, -1).astype(np.float32), weights.astype(np.float32), surfaces


def _surfaces(y: np.ndarray, x: np.ndarray, weight: np.ndarray | float = 1.0) -> np.ndarray:
    """Returns an orthonormal basis, float32 (p, 6), of the surfaces of second degree over points at (y, x), each times its weight."""
    terms = np.stack([np.ones_like(y), y, x, y * y, y * x, x * x], -1)
    return np.linalg.qr(terms / np.abs(terms).max(0) * np.reshape(weight, (-1, 1)))[0].astype(np.float32)


@jax.jit
def _harmonics(patches: jax.Array) -> jax.Array:
    """Returns complex64 (frequencies, k, rings) of patches (k, side, side): each ring's Fourier series, levelled, of unit norm over all."""
    matrix, weights, surfaces = _rings(patches.shape[1])
    rings = jnp.dot(patches.reshape(len(patches), -1), matrix, precision="highest").reshape(len(patches), len(weights), NUM_TURNS)
    weight = weights[None, :, None]
    rings = (rings * jnp.sqrt(weight)).reshape(len(patches), -1)
    rings = rings - jnp.dot(jnp.dot(rings, surfaces, precision="highest"), surfaces.T, precision="highest")
    norm = jnp.linalg.norm(rings, axis=1, keepdims=True)
    rings = jnp.where(norm > FLAT, rings / jnp.maximum(norm, FLAT), 0)
    return jnp.fft.rfft(rings.reshape(len(patches), len(weights), NUM_TURNS)).transpose(2, 0, 1)


@functools.cache
def _waves() -> tuple[np.ndarray, np.ndarray]:
    """Returns (cosines, sines), float32 (frequencies, half of the turns and one): the inverse Fourier series of a real function."""
    frequency = np.arange(NUM_TURNS // 2 + 1)
    share = np.where(frequency % (NUM_TURNS // 2) == 0, 1, 2)[:, None] / NUM_TURNS
    phase = np.multiply.outer(frequency, frequency) * (2 * np.pi / NUM_TURNS)
    return (share * np.cos(phase)).astype(np.float32), (share * np.sin(phase)).astype(np.float32)


@jax.jit
def _best_turn(images: jax.Array, places: jax.Array) -> jax.Array:
    """Returns the similarity float32 (q, p) of the best turn from harmonics (m, q, r) and (m, p, r)."""
    product = functools.partial(jnp.dot, precision="highest")
    parts = [jnp.concatenate(pair, -1) for pair in ((images.real, images.imag), (-images.imag, images.real), (places.real, places.imag))]
    real, imaginary = (jnp.einsum("mqr,mpr->mqp", part, parts[2], precision="highest") for part in parts[:2])
    shape = real.shape[1:]
    # A turn and its opposite share the even part and differ in the sign of the odd one: half the products do.
    even, odd = (product(wave.T, part.reshape(len(wave), -1)) for wave, part in zip(_waves(), (real, imaginary), strict=True))
    return (even + jnp.abs(odd)).max(0).reshape(shape)


@jax.jit
def _which_turn(images: jax.Array, places: jax.Array) -> jax.Array:
    """Returns the number of the best turn, int32 (q, k), from harmonics (m, q, r) and (m, q, k, r)."""
    products = jnp.einsum("mqr,mqkr->qkm", images.conj(), places, precision="highest")
    return jnp.fft.irfft(products, NUM_TURNS).argmax(-1)


def _chunks(rows: np.ndarray, size: int):
    """Yields (start, rows (size, ...)), the last one filled up with zeros: one shape is compiled."""
    for start in range(0, len(rows), size):
        chunk = rows[start : start + size]
        yield start, np.pad(chunk, [(0, size - len(chunk))] + [(0, 0)] * (rows.ndim - 1))


def _starts(images: np.ndarray, scans: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the most alike places (y, x, radians) (n, k, 3), to a reduced pixel and 5 degrees, their scans (n, k) and rows of `images`.

    `images` (2 n) are n and their mirror images.
    """
    factor = max(1.0, images.shape[1] / SIDE)
    small = np.stack([_small(image, factor) for image in images])
    side = small.shape[1]
    harmonics = [_harmonics(jnp.asarray(chunk)) for _, chunk in _chunks(small, CHUNK_IMAGES)]
    found = []
    for number, scan in enumerate(scans):
        reduced = _small(scan, factor)
        reduced = np.pad(reduced, [(0, max(0, side - length)) for length in reduced.shape], "edge")
        similarity, places = _similarities(harmonics, reduced, side, len(images))
        # Neighbours of one peak are one candidate.
        peaks = np.where(similarity == scipy.ndimage.maximum_filter(similarity, (1, 3, 3)), similarity, -2)
        best = _largest(peaks.reshape(len(images), -1), KEPT)
        values = np.take_along_axis(peaks.reshape(len(images), -1), best, 1)
        chosen = [jnp.asarray(places[:, chunk]) for _, chunk in _chunks(best, CHUNK_IMAGES)]
        turns = np.concatenate([np.asarray(_which_turn(*pair)) for pair in zip(harmonics, chosen, strict=True)])[: len(images)]
        steps = [whole / part for whole, part in zip(scan.shape, reduced.shape, strict=True)]
        centres = [(index + side / 2) * step - 0.5 for index, step in zip(np.unravel_index(best, peaks.shape[1:]), steps, strict=True)]
        found.append((values, *centres, turns * (2 * np.pi / NUM_TURNS), np.full(best.shape, number)))
    found = [np.concatenate(parts, axis=1) for parts in zip(*found, strict=True)]
    found.append(np.broadcast_to(np.arange(len(images))[:, None], found[0].shape))
    found = [np.concatenate(np.split(array, 2), axis=1) for array in found]
    best = _largest(found[0], KEPT)
    y, x, angle, scan, which = (np.take_along_axis(array, best, 1) for array in found[1:])
    return np.stack([y, x, angle], -1), scan, which


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Returns the columns of the `count` largest of each row, largest first, the first of equals first."""
    return np.argsort(-values, axis=1, kind="stable")[:, :count]


def _similarities(harmonics, scan: np.ndarray, side: int, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (similarity of the best turn (num, y, x) at every place of the small scan, the places' harmonics (m, y * x, r))."""
    windows = np.lib.stride_tricks.sliding_window_view(scan, (side, side))
    places = windows.shape[:2]
    rows, columns = np.unravel_index(np.arange(places[0] * places[1]), places)
    similarity, found = np.empty((num, len(rows)), np.float32), []
    for start in range(0, len(rows), CHUNK_PLACES):
        part = slice(start, min(start + CHUNK_PLACES, len(rows)))
        ((_, patches),) = _chunks(windows[rows[part], columns[part]], CHUNK_PLACES)
        here = _harmonics(jnp.asarray(patches))
        found.append(np.asarray(here)[:, : part.stop - part.start])
        for number, images in enumerate(harmonics):
            to = slice(number * CHUNK_IMAGES, min((number + 1) * CHUNK_IMAGES, num))
            similarity[to, part] = np.asarray(_best_turn(images, here))[: to.stop - to.start, : part.stop - part.start]
    return similarity.reshape(num, *places), np.concatenate(found, axis=1)


def _fitted(images, scans, starts, scan, which):
    """Returns (similarity (n), (y, x, radians) (n, 3), scan (n), row of `images` (n)) of the best fit among each image's starts."""
    factor = max(1.0, images.shape[1] / SIDE)
    # Blurred first, so that a start half a small pixel off still leads uphill; on fewer pixels, as the blur allows.
    for sigma, stride, kept in ((factor / 2, max(1, int(factor / 2)), KEPT_SHARP), (0.0, 1, 1)):
        table, corners = _table(scans, sigma)
        blurred = scipy.ndimage.gaussian_filter(images, (0, sigma, sigma), mode="nearest")
        flat = [array.reshape(-1, *array.shape[2:]) for array in (which, scan, starts)]
        similarity, placed = _fits(blurred, table, corners[flat[1]], flat[0], flat[2], stride)
        best = _largest(similarity.reshape(scan.shape), kept)
        similarity, scan, which = (np.take_along_axis(array.reshape(scan.shape), best, 1) for array in (similarity, scan, which))
        starts = np.take_along_axis(placed.reshape(starts.shape), best[..., None], 1)
    return similarity[:, 0].astype(np.float64), starts[:, 0].astype(np.float64), scan[:, 0], which[:, 0]


def _table(scans, sigma: float) -> tuple[jax.Array, np.ndarray]:
    """Returns (all pixels (N, 3) of all scans: value and its slopes along y and x; first row, height, width of each scan, int32 (s, 3))."""
    blurred = [scipy.ndimage.gaussian_filter(scan, sigma, mode="nearest") for scan in scans]
    pixels = [np.stack([scan, *np.gradient(scan)], -1).reshape(-1, 3) for scan in blurred]
    first = np.cumsum([0] + [len(rows) for rows in pixels[:-1]])
    corners = [(start, *scan.shape) for start, scan in zip(first, scans, strict=True)]
    return jnp.asarray(np.concatenate(pixels)), np.array(corners, np.int32)


def _fits(images, table, corners, which, starts, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (similarity (c), (y, x, radians) (c, 3)) after fitting image `which[i]` from `starts[i]` in the scan of `corners[i]`."""
    size = images.shape[1]
    offsets = np.stack(np.meshgrid(*[np.arange(size) - (size - 1) / 2] * 2, indexing="ij"), -1)
    inside = np.hypot(*offsets.transpose(2, 0, 1)) <= (size - 1) / 2
    inside &= np.logical_and.outer(*[np.arange(size) % stride == 0] * 2)
    templates, offsets = images[:, inside], offsets[inside]
    surfaces, offsets = jnp.asarray(_surfaces(*offsets.T)), jnp.asarray(offsets, jnp.float32)
    # A filled-up entry needs a scan to look at.
    found = [
        _fit(jnp.asarray(templates[which_part]), offsets, surfaces, table, jnp.asarray(corner), jnp.asarray(start), (size - 1) / 2)
        for (_, which_part), (_, corner), (_, start) in zip(
            _chunks(which, CHUNK_FITS), _chunks(corners, CHUNK_FITS), _chunks(starts.astype(np.float32), CHUNK_FITS), strict=True
        )
    ]
    return tuple(np.concatenate([np.asarray(part) for part in parts])[: len(which)] for parts in zip(*found, strict=True))


@jax.jit
def _fit(templates, offsets, surfaces, table, corners, starts, reach):
    """Returns (similarity (c), place (c, 3)), the best on the way of Gauss-Newton from each start; templates (c, p), offsets (p, 2)."""

    def one(template, corner, start):
        template = _levelled(template[:, None], surfaces)

        def step(_, state):
            place, best, best_place = state
            values, slopes = _sampled(table, corner, place, offsets)
            design = _levelled(jnp.concatenate([values[:, None], slopes], 1), surfaces)
            similarity = _correlation(template[:, 0], design[:, 0])
            best, best_place = jnp.maximum(best, similarity), jnp.where(similarity > best, place, best_place)
            # template = gain * (values + slopes . change) + offset, linear in gain, gain * change (surfaces are taken off: no offset).
            square = jnp.dot(design.T, design, precision="highest")
            square += 1e-6 * jnp.diag(jnp.diag(square)) + 1e-12 * jnp.eye(4)
            gain, *change = jnp.linalg.solve(square, jnp.dot(design.T, template[:, 0], precision="highest"))
            limit = jnp.array([1.5, 1.5, 1.5 / reach])  # 1.5 pixels at the rim
            change = jnp.stack(change) / jnp.where(jnp.abs(gain) > 1e-6, gain, 1)
            place = place + jnp.clip(change, -limit, limit)
            sides = jnp.maximum(corner[1:].astype(jnp.float32) - 1 - reach, reach)
            return place.at[:2].set(jnp.clip(place[:2], reach, sides)), best, best_place

        start = start.at[:2].set(jnp.clip(start[:2], reach, jnp.maximum(corner[1:].astype(jnp.float32) - 1 - reach, reach)))
        return jax.lax.fori_loop(0, ITERATIONS, step, (start, jnp.float32(-2), start))[1:]

    return jax.vmap(one)(templates, corners, starts)


def _levelled(columns, surfaces) -> jax.Array:
    """Returns columns (p, k) without their surface of second degree."""
    return columns - jnp.dot(surfaces, jnp.dot(surfaces.T, columns, precision="highest"), precision="highest")


def _correlation(template, values) -> jax.Array:
    """Returns the normalised correlation of (p) and (p), both levelled; 0 where either is flat."""
    lengths = [jnp.linalg.norm(side) for side in (template, values)]
    flat = jnp.minimum(*lengths) <= FLAT * jnp.sqrt(1.0 * len(values))
    return jnp.where(flat, 0, jnp.sum(template * values) / jnp.where(flat, 1, lengths[0] * lengths[1]))


def _sampled(table, corner, place, offsets) -> tuple[jax.Array, jax.Array]:
    """Returns (values (p), their slopes (p, 3) along y, x and the angle) at the place's pixels, bilinear."""
    cos, sin = jnp.cos(place[2]), jnp.sin(place[2])
    moved_y, moved_x = offsets[:, 0] * cos + offsets[:, 1] * sin, offsets[:, 1] * cos - offsets[:, 0] * sin
    y, x = place[0] + moved_y, place[1] + moved_x
    first, height, width = corner
    top, left = (jnp.clip(jnp.floor(at).astype(jnp.int32), 0, side - 2) for at, side in ((y, height), (x, width)))
    down, right = (jnp.clip(at - low, 0, 1)[:, None] for at, low in ((y, top), (x, left)))
    start = first + top * width + left
    upper, lower = ((1 - right) * table[row] + right * table[row + 1] for row in (start, start + width))
    rows = (1 - down) * upper + down * lower
    # d(y, x) / d(angle) = (moved_x, -moved_y)
    turned = rows[:, 1] * moved_x - rows[:, 2] * moved_y
    return rows[:, 0], jnp.stack([rows[:, 1], rows[:, 2], turned], -1)
