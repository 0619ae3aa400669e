"""Stained cells under a light microscope, one a picture, in four classes that differ in form and texture but not in colour; from a seed."""

import dataclasses
import hashlib
import math

import numpy as np

from microscopy.cell_forms import FORMS, chromatin, cytoplasm, ellipse, filtered, make_nucleus, wobble
from microscopy.scan import DataError, Scan

_GOLDEN = (math.sqrt(5) - 1) / 2
# Share of the cell that is nucleus, low and high; length over width of the cell.
_NUCLEAR_SHARE = {"elongated": (0.28, 0.36), "kidney": (0.40, 0.50), "lobed": (0.26, 0.34), "round": (0.66, 0.78)}
_CELL_ASPECT = {"elongated": (1.5, 1.8), "kidney": (1.0, 1.2), "lobed": (1.0, 1.15), "round": (1.0, 1.15)}
# Optical densities in red, green, blue of haematoxylin and eosin (Ruifrok and Johnston 2001), about which the stains vary.
_NUCLEAR_STAIN = np.array([0.65, 0.70, 0.29])
_PLASMA_STAINS = np.array([[0.07, 0.99, 0.11], [0.45, 0.40, 0.15]])
_RED_CELL_STAIN = np.array([0.10, 0.45, 0.35])


@dataclasses.dataclass(frozen=True)
class CellsSettings:
    """Every parameter of the simulated cells and microscope. Lengths in um, unless a name says px or nm; densities are optical (-ln).

    Picture: `size_px` (h, w) pixels of `nm_per_pixel`, one cell within `offset` of the middle (each axis, uniform), turned at random.
    Classes: the share of pictures `shares` of elongated, kidney, lobed and round nuclei (`cell_forms.FORMS`); `cells_per_patient`
    neighbouring numbers are of one patient and so of one stain, whatever their class.
    Cell: the nucleus covers the area of a disc of a diameter uniform in `nucleus_diameter` (low, high), whatever its class; of the cell
    it is 0.28 to 0.36, 0.40 to 0.50, 0.26 to 0.34 or 0.66 to 0.78. `num_red_cells` pale discs lie around it (Poisson mean).
    Stain: densities `nucleus_density`, `plasma_density` and `background_density` (low, high), uniform for a patient, times the
    stain's colour, whose red, green and blue vary by `stain_spread` (log-normal) from patient to patient; each cell by `cell_spread` more.
    Microscope: point spread a Gaussian of sigma uniform in `focus_sigma`. Lamp: brightness uniform in `brightness` (share of full scale),
    each colour by `colour_cast` more or less, `shading` at most across the picture. Camera, 8 bit: `full_well` electrons at level 255.
    Raises DataError naming the field that is out of its range.
    """

    size_px: tuple[int, int] = (128, 128)
    nm_per_pixel: float = 160.0
    offset: float = 1.5
    shares: tuple[float, float, float, float] = (0.25, 0.25, 0.25, 0.25)
    cells_per_patient: int = 5
    nucleus_diameter: tuple[float, float] = (5.2, 7.6)
    num_red_cells: float = 2.0
    nucleus_density: tuple[float, float] = (1.3, 2.2)
    plasma_density: tuple[float, float] = (0.25, 0.6)
    background_density: tuple[float, float] = (0.02, 0.12)
    stain_spread: float = 0.2
    cell_spread: float = 0.1
    focus_sigma: tuple[float, float] = (0.12, 0.28)
    brightness: tuple[float, float] = (0.7, 1.0)
    colour_cast: float = 0.08
    shading: float = 0.15
    full_well: float = 10000.0

    def __post_init__(self):
        _check(self)


def _check(settings: CellsSettings) -> None:
    """Raises DataError for the first field that is out of its range."""
    size, shares, patient = settings.size_px, settings.shares, settings.cells_per_patient
    rules = {
        "size_px": (len(size) == 2 and min(size) >= 16 and max(size) <= 4096, "two numbers (h, w) in 16..4096"),
        "nm_per_pixel": (0 < settings.nm_per_pixel < math.inf, "above 0"),
        "offset": (0 <= settings.offset < math.inf, "0 or more"),
        "shares": (len(shares) == len(FORMS) and min(shares) >= 0 and abs(sum(shares) - 1) < 1e-6, "four shares with the sum 1"),
        "cells_per_patient": (patient >= 1 and patient == int(patient), "a whole number, 1 or more"),
        "num_red_cells": (0 <= settings.num_red_cells <= 100, "in 0..100"),
        "full_well": (0 < settings.full_well < math.inf, "above 0"),
    }
    for name, most in (("nucleus_diameter", 100), ("nucleus_density", 5), ("focus_sigma", 5), ("brightness", 1)):
        rules[name] = _range(getattr(settings, name), most, above=True)
    for name in ("plasma_density", "background_density"):
        rules[name] = _range(getattr(settings, name), 5, above=False)
    for name in ("stain_spread", "cell_spread", "colour_cast", "shading"):
        rules[name] = (0 <= getattr(settings, name) < 1, "from 0 to below 1")
    for name, (kept, wanted) in rules.items():
        if not kept:
            raise DataError(f"cells setting {name} = {getattr(settings, name)!r}: it must be {wanted}.")


def _range(ends: tuple[float, float], most: float, *, above: bool) -> tuple[bool, str]:
    kept = len(ends) == 2 and 0 <= ends[0] <= ends[-1] <= most and (ends[0] > 0 or not above)
    return kept, f"(low, high) with 0 {'<' if above else '<='} low <= high <= {most}"


@dataclasses.dataclass(frozen=True)
class Cell:
    """`pixels` uint8 (h, w, 3) RGB, `mask` int32 (h, w), 1 in the cell, `nucleus` bool (h, w), the class `label`, the patient's number."""

    pixels: np.ndarray
    mask: np.ndarray
    nucleus: np.ndarray
    label: str
    patient: int


def label_of(settings: CellsSettings, seed: int, index: int) -> str:
    """Returns the class of picture `index`: by a golden-ratio sequence, so that any run of numbers has nearly each class's share."""
    start = np.random.default_rng((seed, 2)).random()
    place = np.searchsorted(np.cumsum(settings.shares), (start + index * _GOLDEN) % 1.0, side="right")
    return FORMS[min(int(place), len(FORMS) - 1)]


def simulate_cell(settings: CellsSettings, seed: int, index: int) -> Cell:
    """Returns picture `index` (0 and up) of the set `seed`; the same arguments give the same bytes on one machine."""
    label, patient = label_of(settings, seed, index), index // settings.cells_per_patient
    random = np.random.default_rng((seed, 0, index))
    y, x = _places(settings, random)
    px_per_um = 1000 / settings.nm_per_pixel
    nucleus, cell, angle = _outlines(settings, label, y, x, random)
    inside, within = (np.clip(0.5 - outline * px_per_um, 0, 1) for outline in (nucleus, cell))
    chroma = inside * _evened(chromatin(label, y.shape, px_per_um, angle, random), inside)
    plasma = within * (1 - inside)
    plasma = plasma * _evened(cytoplasm(label, y.shape, px_per_um, random), plasma)
    around = (1 - within) * _red_cells(settings, y, x, random)
    sigma = random.uniform(*settings.focus_sigma) * px_per_um
    layers = [_blurred(layer, sigma) for layer in (chroma, plasma, around, 1 - within)]
    stains = _stains(settings, np.random.default_rng((seed, 1, patient)), random)
    density = sum(layer[..., None] * stain for layer, stain in zip(layers, stains, strict=True))
    pixels = _recorded(settings, _light(settings, y, x, random) * np.exp(-density), random)
    return Cell(pixels, (cell <= 0).astype(np.int32), nucleus <= 0, label, patient)


def _places(settings: CellsSettings, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Places (y, x) of the pixels in um, (h, w) each, from the middle of the cell."""
    middle = random.uniform(-settings.offset, settings.offset, 2)
    rows, columns = ((np.arange(side) - (side - 1) / 2) * settings.nm_per_pixel / 1000 for side in settings.size_px)
    return np.meshgrid(rows - middle[0], columns - middle[1], indexing="ij")


def _outlines(settings: CellsSettings, form: str, y: np.ndarray, x: np.ndarray, random: np.random.Generator):
    """(distance outside the nucleus, distance outside the cell, both (h, w) in um, angle of the cell's longer axis)."""
    angle, wanted = random.uniform(0, 2 * math.pi), random.uniform(*settings.nucleus_diameter) / 2
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    radius = wanted / math.sqrt(random.uniform(*_NUCLEAR_SHARE[form]))
    aspect, unevenness = random.uniform(*_CELL_ASPECT[form]), random.uniform(0.02, 0.05)
    waves = wobble(across, along, random, unevenness)
    cell = radius * (ellipse(across / radius, along / radius, aspect) + waves)
    outline = make_nucleus(form, random)
    grid = (np.arange(80) + 0.5) / 16 - 2.5
    unit = math.sqrt(np.count_nonzero(outline(grid[:, None] + 0 * grid, grid + 0 * grid[:, None]) <= 0) / 256 / math.pi)
    scale = wanted / unit
    room = 0.12 * max(0.0, radius - wanted)
    dy, dx = random.uniform(-room, room, 2)
    nucleus = scale * outline((across - dy) / scale, (along - dx) / scale)
    return np.maximum(nucleus, cell + 0.15), cell, angle


def _evened(pattern: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The pattern with a mean of 1 where `share` is, so that a texture changes no mean density."""
    return pattern / max(float((pattern * share).sum() / max(share.sum(), 1e-9)), 1e-9)


def _blurred(layer: np.ndarray, sigma: float) -> np.ndarray:
    reach = math.ceil(4 * sigma)
    # The border goes on outwards, or the blur would bring in what lies at the opposite one.
    return filtered(np.pad(layer, reach, mode="edge"), sigma)[reach:-reach, reach:-reach]


def _red_cells(settings: CellsSettings, y: np.ndarray, x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Density pattern (h, w) of red cells, 1 at their rims and paler in the middle."""
    total = np.zeros(y.shape)
    for _ in range(random.poisson(settings.num_red_cells)):
        (cy, cx), radius = [random.uniform(side.min(), side.max()) for side in (y, x)], random.uniform(3.2, 4.0)
        distance = np.hypot(y - cy, x - cx)
        disc = np.clip((radius - distance) * 1000 / settings.nm_per_pixel + 0.5, 0, 1)
        total = np.maximum(total, disc * (1 - 0.55 * np.exp(-((distance / (0.45 * radius)) ** 2))))
    return total


def _stains(settings: CellsSettings, patient: np.random.Generator, random: np.random.Generator) -> list[np.ndarray]:
    """Densities (red, green, blue) of nucleus, cytoplasm, red cells and background; `patient` draws what a patient's cells share."""
    mixed = _PLASMA_STAINS.T @ patient.dirichlet((1.0, 1.0))
    colours = (_NUCLEAR_STAIN, mixed, _RED_CELL_STAIN, patient.dirichlet((2.0, 2.0, 2.0)))
    ranges = (settings.nucleus_density, settings.plasma_density, settings.plasma_density, settings.background_density)
    stains = []
    for colour, ends in zip(colours, ranges, strict=True):
        shared = patient.uniform(*ends) * np.exp(settings.stain_spread * patient.standard_normal(3))
        stains.append(shared * colour / np.linalg.norm(colour) * np.exp(settings.cell_spread * random.standard_normal(3)))
    return stains


def _light(settings: CellsSettings, y: np.ndarray, x: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Light of an empty picture, share of full scale, (h, w, 3)."""
    colour = random.uniform(*settings.brightness) * (1 + random.uniform(-settings.colour_cast, settings.colour_cast, 3))
    slope = random.uniform(-0.5, 0.5, 2) * settings.shading
    fall = 1 + slope[0] * y / np.ptp(y) + slope[1] * x / np.ptp(x)
    return np.clip(fall[..., None] * colour, 0, 1)


def _recorded(settings: CellsSettings, light: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """8 bit levels; shot noise as a Gaussian of the same variance, which it is from tens of electrons on."""
    noise = random.standard_normal(light.shape) * np.sqrt(light / settings.full_well)
    return np.clip(np.rint(255 * (light + noise)), 0, 255).astype(np.uint8)


def cells_scans(settings: CellsSettings, num_scans: int = 40, seed: int = 0) -> list[Scan]:
    """Returns `num_scans` pictures `cell_0000`.. with mask, class and patient (`group`); scan i depends on (settings, seed, i) only."""
    scans = []
    for index in range(num_scans):
        cell = simulate_cell(settings, seed, index)
        scans.append(
            Scan(
                id=f"cell_{index:04d}",
                pixels=cell.pixels,
                sha256=hashlib.sha256(cell.pixels.tobytes()).hexdigest(),
                nm_per_pixel=(settings.nm_per_pixel, settings.nm_per_pixel),
                mask=cell.mask,
                label=cell.label,
                group=f"patient_{cell.patient:03d}",
            )
        )
    return scans
