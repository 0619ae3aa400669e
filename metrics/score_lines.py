"""Scores of sets as printed lines: an aligned table, what can be told from real against real, verdicts."""

HEADER = ("score", "set", "value", "95 % interval", "real/real", "N real", "N gen", "rank", "width", "resize", "protocol")
_LEFT = ("score", "set", "protocol", "resize", "95 % interval")
_NONE = "-"


def table(scores: dict[str, dict[str, dict]]) -> list[str]:
    """Returns the aligned table of set -> name -> `set_scores.score`'s result, a row a score and set, scores together.

    An asterisk marks an interval that no simulation has calibrated at this N and width; the line below the table says so.
    """
    several = len(scores) > 1
    rows = [(each, *row) for name in next(iter(scores.values())) for each, found in scores.items() for row in _rows(name, found[name])]
    cells = [HEADER, *((label, each, *rest) for each, label, *rest in rows)]
    kept = [index for index, title in enumerate(HEADER) if title != "set" or several]
    lines = aligned([[row[index] for index in kept] for row in cells], [HEADER[index] in _LEFT for index in kept])
    starred = any(cell.endswith("*") for row in cells for cell in row[:-1])
    networks = {found["network"] for of in scores.values() for found in of.values() if found.get("network", "fid") != "fid"}
    lines += [f"features of {name}: not those of the FID as published" for name in sorted(networks)]
    return lines + ["* not calibrated at this N and width: a rough guide"] * starred


def aligned(rows: list[list[str]], left: list[bool]) -> list[str]:
    """Returns the rows as lines, columns two spaces apart, aligned left or right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(left))]
    return [
        "  ".join(cell.ljust(w) if begins else cell.rjust(w) for cell, w, begins in zip(row, widths, left, strict=True)).rstrip()
        for row in rows
    ]


def _rows(name: str, found: dict) -> list[tuple[str, ...]]:
    """Returns the cells of one score's rows, from `score` on without `set`."""
    rank = found.get("rank")
    rank = _NONE if rank is None else f"{'<= ' * found['rank_is_bound']}{rank}"
    sizes = (str(found["n_real"]), str(found["n_generated"]), rank, found.get("features", _NONE), found.get("resize", _NONE))
    interval = _NONE
    if "interval" in found:
        interval = "{:.4g} .. {:.4g}".format(*found["interval"]) + "*" * (not found["interval_calibrated"])
    floor = f"{found['floor']:.4g}" if "floor" in found else _NONE
    if name == "fid":
        first = ("fid", f"{found['value']:.6g}", _NONE, f"{floor} (N {found['floor_n']})", *sizes, "covariance by N - 1")
        few = min(found["n_real"], found["n_generated"]) <= int(found["features"])
        guide = "line in 1/N; fewer images than features: its interval misses far too often" if few else "line in 1/N"
        return [first, ("  infinite N", f"{found['infinity']:.6g}", interval, "0", *sizes, guide)]
    if name == "kid":
        std = f"+- {found['std']:.3g} (std, subsets)"
        subsets = f"unbiased, cubic kernel, {found['num_subsets']} subsets of {found['subset_size']}"
        whole = ("  whole sets", f"{found['whole']:.6g}", interval, floor, *sizes, "unbiased, cubic kernel")
        return [("kid", f"{found['value']:.6g}", std, floor, *sizes, subsets), whole]
    if name == "prdc":
        neighbour = {"precision": 3, "recall": 3, "density": 5, "coverage": 5}
        return [(key, f"{found[key]:.4g}", interval, floor, *sizes, f"k = {k}") for key, k in neighbour.items()]
    if name == "is":
        interval = f"+- {found['std']:.3g} (std, splits)"
    return [(name, f"{found['value']:.6g}", interval, floor, *sizes, found["protocol"])]


def notes(name: str, found: dict) -> list[str]:
    """Returns what is said below the table of one score: whether it can be told from real against real, draws, the card's quantities."""
    lines = []
    if "p_value" in found:
        lines.append(f"{name}: {_told(found)} (permutation p {found['p_value']:.3g})")
    if name == "mifid":
        lines.append(f"mifid: memorisation distance {found['memorisation_distance']:.4g}, threshold {found['threshold']:g}")
    if name == "memorisation":
        lines.append(
            f"memorisation: {found['num_copies']} of {found['n_generated']} are copies (similarity above {found['threshold']:.3f})"
        )
        lines.append(f"memorisation: {found['sensitivity']:.0%} of planted copies were found")
    if "draws" in found:
        drawn = found["draws"]
        lines.append(f"{name}: {drawn['mean']:.6g} +- {drawn['std']:.3g} over {drawn['repeats']} draws of {drawn['num']} images")
    return lines + (_quantities(found) if name == "surface" else [])


def _told(found: dict) -> str:
    return "differs from real against real" if found["differs"] else "cannot be told from real against real"


def _quantities(found: dict) -> list[str]:
    rows = [["  quantity", "distance", "real/real", "real", "generated", "unit"]]
    for key, row in found["quantities"].items():
        means = [_NONE if row[side] is None else f"{row[side]:.4g}" for side in ("real", "generated")]
        rows.append([f"  {key}", f"{row['distance']:.4g}", f"{row['floor']:.4g}", *means, row["unit"]])
    lines = aligned(rows, [True, False, False, False, False, True])
    slope = found["psd_slope"]
    if slope:
        ends = f"{slope['low']:.3g} .. {slope['high']:.3g} {slope['unit']}"
        lines.append(f"  slope of log PSD over log frequency, {ends}: real {slope['real']:.2f}, generated {slope['generated']:.2f}")
    return lines


def verdict_line(verdict: dict) -> str:
    """Returns one of `set_scores.verdicts` as a line."""
    guide = "" if verdict["calibrated"] else " (intervals not calibrated)"
    return f"{verdict['score']}: {verdict['first']} and {verdict['second']}: {verdict['verdict']}{guide}"
