"""Levelling: what tilt, line offsets and glitches add to a height map is fitted and taken away, and what was taken is recorded."""

import difflib
from collections.abc import Mapping

import numpy as np

from microscopy.defects import scars, spikes
from microscopy.planes import background_plane, facet, plane, plane_surface, polynomial, polynomial_surface
from microscopy.rows import row_backgrounds, row_differences, row_medians, terrace_rows
from microscopy.scan import DataError, FieldError

METHODS = ("none", "plane", "plane+rows", "plane+backgrounds")  # fixed: published figures name them
PLANES = {"plane": plane, "robust": background_plane, "facet": facet}
POLYNOMIALS = {"polynomial2": 2, "polynomial3": 3}
ROWS = {
    "rows": row_medians,
    "differences": row_differences,
    "backgrounds": row_backgrounds,
    "terraces": terrace_rows,
}
DEFECTS = {"scars": scars, "spikes": spikes}
STEPS = ("offset", *PLANES, *POLYNOMIALS, *ROWS, *DEFECTS)


def auto(unit: str) -> str:
    """Returns the method for scans of this unit: "plane+backgrounds" for heights in nm, "none" for grey levels and the rest.

    docs/levelling.md has the measurements behind the choice.
    """
    return "plane+backgrounds" if unit == "nm" else "none"


def parse(method: str) -> tuple[str, ...]:
    """Returns the steps of a method, names of `STEPS` joined by "+" and done from left to right; () for "none".

    Raises FieldError naming the part that is none of them and the nearest that is.
    """
    if method == "none":
        return ()
    steps = tuple(part.strip() for part in method.split("+"))
    for part in steps:
        if part not in STEPS:
            close = difflib.get_close_matches(part, STEPS, n=1, cutoff=0.0)[0]
            within = "" if part == method else f" in {method!r}"
            alone = " (none stands alone)" if part == "none" else ""
            raise FieldError(
                f"levelling {part!r}{within} is unknown{alone}; the nearest is {close}.\n"
                f"Write none, or one or more of {', '.join(STEPS)} joined by +."
            )
    return steps


def level(height: np.ndarray, method: str) -> tuple[np.ndarray, dict]:
    """Returns (levelled float32 (h, w), record) by a method such as "plane+backgrounds" or "facet+terraces+scars+spikes".

    Steps, in the order written: "offset" (the median); the planes "plane" (least squares), "robust" (of the background) and
    "facet" (of the terraces); "polynomial2", "polynomial3" (least squares of that total degree); the rows' "rows" (medians),
    "differences", "backgrounds" and "terraces"; "scars" and "spikes". See `planes`, `rows` and `defects`.

    The record is plain JSON: `method`; `steps`, one object each with `step` and what it took (`offset`, `slope_y`, `slope_x`
    in height units, per pixel; `coefficients`; `row_shifts` to nine digits and `row_shifts_rms`) or how many pixels it replaced
    (`scars_replaced`, `spikes_replaced`); beside them the single numbers once more, the last of each name. Raises FieldError
    for an unknown method, DataError for another shape or a height that is not finite.
    """
    steps = parse(method)
    if height.ndim != 2 or height.size == 0:
        raise DataError(f"levelling: a height map (h, w) is needed, not shape {height.shape}; choose one channel.")
    if not np.isfinite(height).all():
        raise DataError(f"levelling: {int((~np.isfinite(height)).sum())} pixels are NaN or infinite; cut them off or fill them first.")
    taken = []
    for step in steps:
        height, facts = _apply(height, step)
        taken.append({"step": step} | facts)
    numbers = {name: value for facts in taken for name, value in facts.items() if isinstance(value, int | float)}
    return height.astype(np.float32), {"method": method} | numbers | {"steps": taken}


def _apply(height: np.ndarray, step: str) -> tuple[np.ndarray, dict]:
    """Returns the height after one step and the step's part of the record."""
    if step == "offset":
        offset = float(np.median(height))
        return height.astype(np.float64) - offset, {"offset": offset}
    if step in PLANES:
        height, found = PLANES[step](height)
        return height, dict(zip(("offset", "slope_y", "slope_x"), found.tolist(), strict=True))
    if step in POLYNOMIALS:
        height, found = polynomial(height, POLYNOMIALS[step])
        return height, {"coefficients": found.tolist()}
    if step in ROWS:
        height, shifts = ROWS[step](height)
        return height, {"row_shifts_rms": float(np.sqrt(np.mean(shifts**2))), "row_shifts": [float(f"{shift:.9g}") for shift in shifts]}
    height, found = DEFECTS[step](height)
    return height, {f"{step}_replaced": int(found.sum())}


def restore(levelled: np.ndarray, record: Mapping) -> np.ndarray:
    """Returns the heights before levelling, float64 (h, w), from what `level` returned.

    Exact to the rounding of float32 (levelled) and of nine digits (row shifts). Pixels that "scars" or "spikes" replaced keep
    their new values: the record says how many they are, not what they were. Raises DataError where the record is of another shape.
    """
    height = levelled.astype(np.float64)
    for facts in reversed(record.get("steps", [])):
        if "row_shifts" in facts and len(facts["row_shifts"]) != len(height):
            raise DataError(f"levelling: the record is of {len(facts['row_shifts'])} rows, the scan has {len(height)}; pair them anew.")
        height = height + _taken(facts, height.shape)
    return height


def _taken(facts: Mapping, shape: tuple[int, int]) -> np.ndarray | float:
    """Returns what a step of a record took away: a number or an array that broadcasts to (h, w)."""
    if "row_shifts" in facts:
        return np.array(facts["row_shifts"])[:, None]
    if "coefficients" in facts:
        return polynomial_surface(shape, np.array(facts["coefficients"]))
    if "slope_y" in facts:
        return plane_surface(shape, facts["offset"], facts["slope_y"], facts["slope_x"])
    return facts.get("offset", 0.0)
