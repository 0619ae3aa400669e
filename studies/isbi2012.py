"""The tables of configs/isbi2012_table.py: every stage is trained, then what is finished stands beside the published figures."""

import json
import math
import pathlib

import numpy as np

from microscopy.atomic import write_bytes, write_json
from studies import stages
from training.signals import Stop

PUBLISHED = {
    "U-Net alone, train": {"module": 0.25, "squaring": 0.279, "percent": 90.3, "iou": 0.882},
    "U-Net alone, test": {"module": 0.312, "squaring": 0.402, "percent": 86.1, "iou": 0.855},
    "U-Net in GAN, train": {"module": 0.235, "squaring": 0.453, "percent": 88.3, "iou": 0.866},
    "U-Net in GAN, test": {"module": 0.212, "squaring": 0.407, "percent": 89.5, "iou": 0.89},
}
"""On 30 training and 30 other slices; the second network was trained on IoU squared."""
SCORES = ("module", "squaring", "percent", "iou", "v_rand", "v_info", "binary")
AUDIT = ("spearman_predicted", "spearman_near", "spearman_damaged", "cosine", "steps_better")


def run(config, workdir, stop: Stop) -> None:
    """Trains the stages of `config.order` in turn (`studies.stages.run`), then writes table.md and table.json of the finished ones."""
    workdir = pathlib.Path(workdir)
    stages.run(config, workdir, stop)
    tables = gather(config, workdir)
    write_json(workdir / "table.json", tables)
    write_bytes(workdir / "table.md", text(tables).encode())
    print(text(tables))


def gather(config, workdir: pathlib.Path) -> dict:
    """Returns {"scores": rows, "audit": rows} of the finished stages: means over the folds of a method, NaN where nothing is finished.

    A row of scores has `by`, `folds` and the scores of `SCORES`; training slices, held-out slices and the difference of both are rows of
    their own, as is the baseline that calls everything a cell, on the held-out slices.
    """
    scores, audits = [{"by": f"{name} (published)", "folds": 1, **row} for name, row in PUBLISHED.items()], []
    kinds = dict.fromkeys(name.rpartition("_fold")[0] for name in config.order)
    everything: list[dict] = []
    for kind in kinds:
        found = [one for name in config.order if name.rpartition("_fold")[0] == kind and (one := _finished(workdir / name))]
        if not found:
            continue
        word = "U-Net alone" if kind == "unet" else f"U-Net in GAN, {kind}"
        held, train = ({name: _mean(found, f"segmentation/{prefix}{name}") for name in SCORES} for prefix in ("", "train_"))
        scores += [{"by": f"{word}, {split}", "folds": len(found), **row} for split, row in (("train", train), ("held out", held))]
        gap = {name: held[name] - train[name] for name in SCORES}
        scores.append({"by": f"{word}, held out minus train", "folds": len(found), **gap})
        if kind != "unet":
            audits.append({"by": kind, "folds": len(found), **{name: _mean(found, f"critic/{name}") for name in AUDIT}})
        everything += [] if everything else [_baseline(one) for one in found]
    if everything:
        row = {name: float(np.mean([one[name] for one in everything])) for name in SCORES}
        scores.append({"by": "everything a cell, held out", "folds": len(everything), **row})
    return {"scores": scores, "audit": audits}


def _finished(folder: pathlib.Path) -> dict | None:
    """The evaluation of a finished stage."""
    status = folder / "status.json"
    if not status.exists() or json.loads(status.read_text())["state"] != "finished":
        return None
    return json.loads((folder / "evaluation.json").read_text())


def _baseline(evaluation: dict) -> dict:
    (name,) = [name for name in evaluation["tables"] if "held-out" in name and "means" in name]
    return next(row for row in evaluation["tables"][name] if row["by"] == "everything foreground")


def _mean(found: list[dict], name: str) -> float:
    values = [one["scalars"][name] for one in found if one["scalars"].get(name) is not None]
    return float(np.mean(values)) if values else math.nan


def text(tables: dict) -> str:
    """Returns both tables as Markdown; "-" where there is no figure."""
    parts = []
    for title, names in (("scores", SCORES), ("audit", AUDIT)):
        head = ["by", "folds", *names]
        rows = [[row["by"], str(row["folds"]), *(_figure(row.get(name, math.nan)) for name in names)] for row in tables[title]]
        parts.append("\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)))
    return "\n\n".join(parts) + "\n"


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"
