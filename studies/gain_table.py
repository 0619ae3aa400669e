"""The tables of studies/augmentation_gain.py: scores with intervals beside the published ones, and what they rest on, as Markdown."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from metrics import confusion, paired_bootstrap

PUBLISHED = {
    "cytology, originals (published, about)": 0.75,
    "cytology, with generated (published, about)": 0.955,
    "histology, originals (published, about)": 0.84,
    "histology, with generated (published, about)": 0.965,
}
"""Accuracies on other images, 78 and 91 of them, split 7:3."""
NAMES = {
    "real_affine": "real + affine",
    "real": "real",
    "generated": "generated only",
    "real_affine_generated": "real + affine + generated",
    "real_affine_selected": "real + affine + selected generated",
}
BASELINES = ("real_affine", "real")


def tables(config, classes: tuple[str, ...], labels: np.ndarray, found: Mapping[str, list[np.ndarray]]) -> dict:
    """Returns {"scores": rows, "protocol": a sentence}: published rows, what the most frequent class alone gets, and ours.

    `found` are each classifier's probabilities of the test images, of `labels` (n). Ours are rows of `paired_bootstrap.compare` against
    real + affine, or against real where that was not trained; empty where nothing is finished.
    """
    rows = [{"by": name, "accuracy": value} for name, value in PUBLISHED.items()]
    counts = np.bincount(labels, minlength=len(classes))
    always = confusion.matrix(labels, np.full(len(labels), counts.argmax()), len(classes))
    most = {"by": f"always {classes[counts.argmax()]}", "accuracy": confusion.accuracy(always)}
    rows.append(most | {"macro_f1": confusion.macro_f1(always), "auc": 0.5})
    baseline = next((name for name in BASELINES if name in found), "")
    if found:
        ours = paired_bootstrap.compare(found, labels, baseline, config.num_bootstrap, config.seed)
        rows += [{**row, "by": NAMES[row["by"]]} for row in ours]
    told = ", ".join(f"{name} {count}" for name, count in zip(classes, counts, strict=True))
    against = f"; gains against {NAMES[baseline]}" if len(found) > 1 and baseline else ""
    control = {"": "", "copies": "; generated are copies of the real ones", "shuffled": "; training labels are shuffled"}[config.control]
    protocol = (
        f"{len(labels)} test scans ({told}), each seen once, by the last checkpoint of {config.num_steps:,} steps{against}{control}; means "
        f"of the seeds, 95 % of {config.num_bootstrap:,} draws of scans within each class and of seeds; p two-sided, of the same draws."
    )
    return {"scores": rows, "protocol": protocol}


def mixture(config, chosen: Sequence[Mapping]) -> str:
    """Returns what the rows with generated images added rest on, a sentence or two; `chosen` are the rows of `image_sets.select`."""
    if config.control:
        return ""
    drawn = "half of what is drawn of each class is real" if config.mixture == "half" else "every file of a class is drawn alike"
    told = f"Where generated images are added, {drawn}."
    if chosen:
        told += " Selected: " + ", ".join(f"{row['selected']} of {row['class']}" for row in chosen) + "."
    if none := [str(row["class"]) for row in chosen if not row["selected"]]:
        told += f" With no selected image of {', '.join(none)} the last row has seen real images of that class alone."
    return told


def text(made: Mapping) -> str:
    """Returns the tables as Markdown; "-" where there is no figure."""
    columns = ["by", "seeds"]
    cells = []
    for row in made["scores"]:
        line = [row["by"], str(row.get("seeds", "-"))]
        for name in paired_bootstrap.SCORES:
            line += [_interval(row, name), _interval(row, f"{name}_gain"), _figure(row.get(f"{name}_p"))]
        cells.append(line)
    for name in paired_bootstrap.SCORES:
        columns += [name, "gain", "p"]
    parts = [_markdown(columns, cells), made["protocol"], *filter(None, [made.get("mixture")])]
    for name in ("selection", "distances", "copies"):
        rows = made.get(name)
        if rows:
            head = list(dict.fromkeys(key for row in rows for key in row))
            parts += [f"{name}:", _markdown(head, [[_figure(row.get(key)) for key in head] for row in rows])]
    parts += [made[name] for name in ("distances_protocol", "copies_protocol") if made.get(name)]
    return "\n\n".join(parts) + "\n"


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def _interval(row: Mapping, name: str) -> str:
    value, low, high = (row.get(f"{name}{end}") for end in ("", "_low", "_high"))
    sign = "+" if name.endswith("_gain") else ""
    if value is None:
        return "-"
    return f"{value:{sign}.3f}" + (f" ({low:{sign}.3f} .. {high:{sign}.3f})" if low is not None else "")


def _figure(value) -> str:
    if value is None or isinstance(value, float) and math.isnan(value):
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
