"""What the numbers of a chain say: sentences at the top of its page, scores, the surface card, both U-Nets, copies."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from database import charts, evidence, gates, markup
from database.evidence import Chain

PUBLISHED = {
    (32, "SRGAN"): (329.32, 22.91, 0.43, 0.12),
    (32, "bilinear"): (319.36, 18.46, 0.39, 0.07),
    (48, "bilinear"): (346.43, 14.29, 0.40, 0.10),
    (48, "SRGAN"): (315.95, 26.03, 0.31, 0.13),
    (64, "bilinear"): (287.94, 22.45, 0.32, 0.05),
    (64, "SRGAN"): (266.85, 24.56, 0.23, 0.10),
    (96, "bilinear"): (335.39, 17.53, 0.44, 0.13),
    (96, "SRGAN"): (234.26, 23.61, 0.20, 0.08),
    (128, "bilinear"): (303.51, 24.00, 0.27, 0.18),
    (128, "SRGAN"): (265.30, 18.85, 0.22, 0.09),
}
"""CO-1144: (px of the DCGAN, upscaler) -> FID, its deviation, KID, its deviation; 100 images against 100, 2048-d, other scans."""
COLLAPSED = 0.5
"""Of real images' mean difference: below it generated ones are alike."""
QUANTITIES = {
    "sa": "Sa, mean height",
    "sq": "Sq, rms height",
    "ssk": "skewness",
    "sku": "kurtosis",
    "correlation_length": "correlation length",
    "diameter": "particle diameter",
    "coverage": "coverage",
    "density": "particle density",
    "spacing": "particle spacing",
    "heights": "heights, pooled",
    "psd": "power spectrum",
}
JUDGED = ("dice", "ap50", "diameter_error")
DOWNSTREAM = {"dice": "Dice", "iou": "IoU", "ap50": "AP50", "diameter_error": "diameter error", "v_rand": "V_rand", "v_info": "V_info"}
NOT_SEARCHED = "The images were not searched for in the training scans (config.stages.database.refuse_copies)."
TRAINED = {"database": "trained on the database", "real": "trained on real crops"}


def verdicts(chain: Chain) -> str:
    """Returns a list of sentences: what speaks for the database and what does not, from the numbers that are there."""
    found = [*_unfinished(chain), *_told_apart(chain), *_copied(chain), *_alike(chain), *_helpful(chain)]
    items = "".join(f'<li class="{kind}">{markup.escaped(words)}</li>' for kind, words in found)
    return f'<ul class="verdicts">{items}</ul>' if items else ""


def _unfinished(chain: Chain) -> list[tuple[str, str]]:
    state = str(chain.status.get("state", ""))
    waiting = [str(name) for name, one in _objects(chain.status.get("stages")).items() if one.get("state") != "finished"]
    if waiting and state != "finished":
        return [
            ("warn", f"The chain is not finished ({state or 'state unknown'}): {', '.join(waiting)} to come. This page shows what stands.")
        ]
    return []


def _told_apart(chain: Chain) -> list[tuple[str, str]]:
    names = {"surface": "the surface card", "kid": "KID", "fid": "FID"}
    found = [(words, of) for name, words in names.items() if isinstance(of := chain.scores.get(name), dict) and "differs" in of]
    lines = []
    for differs, kind, words in ((True, "warn", "can be told from real ones by"), (False, "good", "cannot be told from real ones by")):
        by = [f"{name}{_chance(of)}" for name, of in found if bool(of["differs"]) == differs]
        if by:
            first = found[0][1]
            lines.append(
                (kind, f"{first.get('n_generated')} generated images {words} {' and '.join(by)} against {first.get('n_real')} real ones.")
            )
    return lines


def _chance(of: Mapping[str, Any]) -> str:
    chance = _number(of.get("p_value"))
    return f" (p = {chance:.2g})" if math.isfinite(chance) else ""


def searched(chain: Chain) -> bool:
    """Returns whether images were searched for in the training scans, or nothing says that they were not."""
    return not ("gate" in chain.facts and chain.facts["gate"] is None)


def _copied(chain: Chain) -> list[tuple[str, str]]:
    refused, gate = chain.facts.get("refused"), _objects(chain.facts).get("gate", {})
    if not searched(chain):
        return [("warn", f"{NOT_SEARCHED} Nothing says that none of them is a copy.")]
    if gate and gate.get("threshold") is None:
        return [
            (
                "warn",
                f"Near-copies of training scans could not be told from others, so none was refused: {gate.get('why') or 'no threshold'}.",
            )
        ]
    if not isinstance(refused, list):
        return []
    sensitivity = _number(gate.get("sensitivity"))
    more = "" if math.isnan(sensitivity) else f" The search finds {100 * sensitivity:.0f} % of planted copies."
    if refused:
        return [("good", f"Near-copies of training scans that were refused: {len(refused)}; {len(chain.rows):,} images kept.{more}")]
    return [("good", f"No image came near enough to a training scan to be called a copy; {len(chain.rows):,} kept.{more}")]


def _alike(chain: Chain) -> list[tuple[str, str]]:
    scalars = _objects(evidence.stage(chain.workdir, "dcgan")["evaluation"]).get("scalars", {})
    ratio, told = _number(scalars.get("diversity/ratio")), _objects(chain.facts).get("diversity", {})
    made, real = (_number(told.get(name)) for name in ("distinct", "distinct_real"))
    if math.isfinite(made) and math.isfinite(real):
        words = f"{told.get('images')} images are as varied as {made:.0f} distinct ones; as many crops of the scans as {real:.0f}"
        if told.get("collapsed"):
            return [("warn", f"{words}: the generator has collapsed.")]
        return [("warn", f"{words}: less varied than the scans.") if made < gates.VARIED * real else ("good", f"{words}.")]
    if math.isnan(ratio):
        return []
    words = f"Two generated images differ by {100 * ratio:.0f} % of what two real ones differ by"
    return [("warn", f"{words}: the generator has collapsed, or nearly.")] if ratio < COLLAPSED else [("good", f"{words}.")]


def _helpful(chain: Chain) -> list[tuple[str, str]]:
    rows = downstream_rows(chain)
    made, real = (_number(rows.get(name, {}).get("dice")) for name in ("database", "real"))
    if math.isnan(made) or math.isnan(real):
        return []
    count = chain.downstream.get("scans")
    where = f"on {len(count)} unseen real scan{'s' if len(count) != 1 else ''}" if isinstance(count, list) else "on unseen real scans"
    words = f"{where} the U-Net of the database reaches a Dice of {made:.3f}, the one of real crops {real:.3f}"
    words, error = f"{words[0].upper()}{words[1:]}", math.hypot(*(_error(rows[name]) for name in ("database", "real")))
    value, name = max(((_number(row.get("dice")), by) for by, row in rows.items() if by not in TRAINED), default=(-math.inf, ""))
    if made < value:
        return [("warn", f"{words}. {name[0].upper()}{name[1:]} has {value:.3f}: this U-Net has not learned to read them.")]
    if made < real - error:
        return [("warn", f"{words}: here generated data does not take the place of labelled real scans.")]
    return [("good", f"{words}{f': less apart than their standard errors ({error:.3f}) reach' if abs(made - real) <= error else ''}.")]


def _error(row: Mapping[str, Any]) -> float:
    """The standard error of its Dice, 0 where one scan has none."""
    found = _number(row.get("dice_error"))
    return found if math.isfinite(found) else 0.0


def scores(chain: Chain) -> str:
    """Returns the table of scores with N, interval and floor, what is missing, and the published row of that size."""
    rows = [_score_row(name, of) for name, of in chain.scores.items() if isinstance(of, dict) and "value" in of]
    said = markup.missing(str(chain.scores["note"])) if chain.scores.get("note") else ""
    if not rows:
        return said or markup.missing("There are no scores yet.")
    caption = "Floor: what real images get against real ones; an interval marked * is not calibrated. Lower is better but for IS and prdc."
    return said + markup.table("Generated against real images of scans that no stage was trained on", rows, caption) + _published(chain)


def _score_row(name: str, of: Mapping[str, Any]) -> dict[str, Any]:
    width = str(of.get("features", ""))
    row = {"score": f"{name}-{width}" if width.isdigit() else {"surface": "surface card", "is": "IS"}.get(name, name)}
    row |= {"value": of["value"], "± std": of.get("std"), "95 % interval": _interval(of), "floor": of.get("floor")}
    row |= {"told apart": of.get("differs"), "generated": of.get("n_generated"), "real": of.get("n_real"), "resize": of.get("resize")}
    extra = ", ".join(f"{key} {of[key]:.3g}" for key in ("precision", "recall", "density", "coverage") if isinstance(of.get(key), float))
    return row | {"protocol": "; ".join(filter(None, (extra, str(of.get("protocol", "")))))}


def _interval(of: Mapping[str, Any]) -> str:
    ends = of.get("interval")
    if not isinstance(ends, list | tuple) or len(ends) != 2:
        return ""
    return f"{_number(ends[0]):.4g} to {_number(ends[1]):.4g}" + ("" if of.get("interval_calibrated") else " *")


def _published(chain: Chain) -> str:
    size = chain.config.data.height if chain.config else 0
    if (size, chain.upscaler) not in PUBLISHED:
        return ""
    fid, fid_std, kid, kid_std = PUBLISHED[size, chain.upscaler]
    words = (
        f"Published for DCGAN{size} + {chain.upscaler} (CO-1144): FID {fid} ± {fid_std}, KID {kid} ± {kid_std}. That is on other scans, "
    )
    return markup.note(words + "100 images against 100, features of 2048 numbers: no score of another width may stand beside it.")


def surface_card(chain: Chain) -> str:
    """Returns the surface card as a chart of distances over their floor and a table, a note where there is none."""
    quantities = _objects(_objects(chain.scores).get("surface", {}).get("quantities"))
    if not quantities:
        return markup.missing("There is no surface card yet.")
    dots, rows = [], []
    for name, of in quantities.items():
        distance, low, high, floor = (_number(of.get(key)) for key in ("distance", "low", "high", "floor"))
        if floor > 0 and math.isfinite(distance + low + high):
            dots.append(charts.Distance(QUANTITIES.get(name, name), distance / floor, low / floor, high / floor))
        shown = {key: of.get(key) for key in ("real", "generated", "unit", "distance", "floor")}
        rows.append({"quantity": QUANTITIES.get(name, name), **shown})
    caption = "1, the dashed line, is what real images get against real ones at the same numbers; bars are 95 % intervals."
    parts = [charts.distances("Surface card: how far from real", dots, caption)] if dots else []
    parts.append(
        markup.table(
            "Surface card, in its units",
            rows,
            "real, generated: means over images; distances are Wasserstein-1, of the spectrum rms log10.",
        )
    )
    return markup.group("halves", parts)


def particles(chain: Chain) -> str:
    """Returns a table of what was measured on the database's images, mean and spread over the images."""
    names = {"particles": "particles an image", "mean_diameter": "mean diameter", "coverage": "coverage", "roughness": "roughness"}
    names |= {"nearest_similarity": "similarity to the nearest scan"}
    rows = []
    for name, words in names.items():
        values = np.array([evidence.number(row, name) for row in chain.rows])
        values = values[np.isfinite(values)]
        if values.size:
            ends = np.percentile(values, (5, 95))
            spread = {"mean": values.mean(), "std": values.std(), "5 %": ends[0], "95 %": ends[1]}
            rows.append({"of each image": words, **{key: float(value) for key, value in spread.items()}, "images": values.size})
    return markup.table("Measured on the database's images", rows)


def label_scores(chain: Chain) -> str:
    """Returns the generator's own tables of its labels, "" where it draws none."""
    tables = evidence.stage(chain.workdir, "dcgan")["evaluation"].get("tables")
    named = (
        {name: rows for name, rows in tables.items() if name.startswith("Labels") and isinstance(rows, list)}
        if isinstance(tables, dict)
        else {}
    )
    return "".join(markup.table(name, [row for row in rows if isinstance(row, dict)]) for name, rows in named.items())


def downstream_rows(chain: Chain) -> dict[str, dict]:
    """Returns by -> scores of downstream.json, {} where nothing has been judged."""
    rows = chain.downstream.get("rows")
    return {str(row["by"]): row for row in rows if isinstance(row, dict) and "by" in row} if isinstance(rows, list) else {}


def downstream(chain: Chain) -> str:
    """Returns the scores of both U-Nets on real scans that neither saw, beside what needs no network."""
    rows = downstream_rows(chain)
    said = markup.missing(str(chain.downstream["note"])) if chain.downstream.get("note") else ""
    if not rows:
        return said or markup.missing("No U-Net has been judged yet: the scans have no masks, or those stages are to come.")
    shown = {TRAINED.get(by, by): row for by, row in rows.items()}
    of = {by: {DOWNSTREAM[key]: _number(row.get(key)) for key in JUDGED} for by, row in shown.items()}
    of = {by: {words: value for words, value in row.items() if math.isfinite(value)} for by, row in of.items()}
    table = [{"": by, **_with_errors(row)} for by, row in shown.items()]
    caption = "Diameter error: relative difference of the mean diameters, lower is better; of the others higher is."
    drawn = charts.bars("On whole real scans", {by: row for by, row in of.items() if row}, caption)
    protocol = str(chain.downstream.get("protocol") or "")
    return said + markup.note(protocol) + markup.group("halves", [drawn, markup.table("All scores ± standard error", table)])


def _with_errors(row: Mapping[str, Any]) -> dict[str, str]:
    """Name -> "0.871 ± 0.010", the standard error where there is one."""
    names = [name for name in row if name != "by" and not (name.endswith("_error") and name.removesuffix("_error") in row)]
    found = {name: (_number(row[name]), _number(row.get(f"{name}_error"))) for name in names}
    texts = {name: f"{value:.3g}" + (f" ± {error:.2g}" if math.isfinite(error) else "") for name, (value, error) in found.items()}
    return {DOWNSTREAM.get(name, name): text if math.isfinite(found[name][0]) else "" for name, text in texts.items()}


def refused(chain: Chain) -> str:
    """Returns a table of the images that were refused as copies, a note where none was searched for."""
    rows = chain.facts.get("refused")
    if not searched(chain):
        return markup.missing(NOT_SEARCHED)
    if not isinstance(rows, list):
        return markup.missing("The database does not say which images were refused.")
    shown = [{name: value for name, value in row.items() if isinstance(value, str | int | float)} for row in rows if isinstance(row, dict)]
    return markup.table(f"Refused: {len(rows)}", shown[:200]) or markup.note("No image was refused.")


def _objects(value: Any) -> dict[str, dict]:
    return {name: one for name, one in value.items() if isinstance(one, dict)} if isinstance(value, dict) else {}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
