"""The tables of configs/isbi2012_table.py: every stage is trained, then what is finished stands beside the published figures."""

import json
import math
import pathlib

import numpy as np

from microscopy.atomic import write_bytes, write_json
from studies import stages
from training import logbook, loop
from training import workdir as workdirs
from training.signals import Stop

PUBLISHED = {
    "U-Net alone, train": {"module": 0.25, "squaring": 0.279, "percent": 90.3, "iou": 0.882},
    "U-Net alone, test": {"module": 0.312, "squaring": 0.402, "percent": 86.1, "iou": 0.855},
    "U-Net in GAN, train": {"module": 0.235, "squaring": 0.453, "percent": 88.3, "iou": 0.866},
    "U-Net in GAN, test": {"module": 0.212, "squaring": 0.407, "percent": 89.5, "iou": 0.89},
}
"""On 30 training and 30 other slices; the second network was trained on IoU squared."""
SCORES = ("module", "squaring", "percent", "iou", "v_rand", "v_info", "binary")
SCORED = "segmentation/iou"
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
    """Returns {"scores": rows, "same folds": rows, "audit": rows} of the finished stages: means over the folds of a method.

    A row of scores has `by`, `folds`, `steps`, `scored at` and the scores of `SCORES`, NaN where there is none; training slices, held-out
    slices and the difference of both are rows of their own, as is the baseline that calls everything a cell, on the held-out slices.
    "same folds" has the rows again, of the folds alone that all methods have, where some have others too. Scores are what the training's
    log has at its last evaluation: evaluation.json is that of any scans that were scored since.
    """
    kinds = dict.fromkeys(name.rpartition("_fold")[0] for name in config.order)
    found = {kind: _of_kind(config, workdir, kind) for kind in kinds}
    found = {kind: folds for kind, folds in found.items() if folds}
    published = [{"by": f"{name} (published)", "folds": "-", "steps": "-", "scored at": "-", **row} for name, row in PUBLISHED.items()]
    tables = {"scores": published + _scores(found), "same folds": []}
    shared = set.intersection(*map(set, found.values())) if found else set()
    if shared and any(set(folds) != shared for folds in found.values()):
        tables["same folds"] = _scores({kind: {fold: folds[fold] for fold in folds if fold in shared} for kind, folds in found.items()})
    audited = {kind: folds for kind, folds in found.items() if kind != "unet"}
    tables["audit"] = [{"by": kind} | _row(folds, {name: f"critic/{name}" for name in AUDIT}) for kind, folds in audited.items()]
    return tables


def _of_kind(config, workdir: pathlib.Path, kind: str) -> dict[str, dict]:
    """Fold -> what is finished of it, in the order of the folds."""
    stages_of = {name.rpartition("_fold")[2]: name for name in config.order if name.rpartition("_fold")[0] == kind}
    return {fold: one for fold, name in sorted(stages_of.items()) if (one := _finished(workdir / name))}


def _scores(found: dict[str, dict[str, dict]]) -> list[dict]:
    """The rows of scores of the finished folds of each kind, and the baseline on the held-out slices of the first."""
    rows, everything = [], {}
    for kind, folds in found.items():
        word = "U-Net alone" if kind == "unet" else f"U-Net in GAN, {kind}"
        held, train = (_row(folds, {name: f"segmentation/{prefix}{name}" for name in SCORES}) for prefix in ("", "train_"))
        gap = held | {name: held[name] - train[name] for name in SCORES}
        rows += [{"by": f"{word}, {part}"} | row for part, row in (("train", train), ("held out", held), ("held out minus train", gap))]
        everything = everything or {fold: one for fold, one in folds.items() if one["baseline"]}
    if everything:
        row = {name: float(np.mean([one["baseline"][name] for one in everything.values()])) for name in SCORES}
        rows.append({"by": "everything a cell, held out", "folds": ", ".join(everything), "steps": "-", "scored at": "-", **row})
    return rows


def _row(folds: dict[str, dict], names: dict[str, str]) -> dict:
    """The means over the folds of the scalars `names` (title to name), which folds these are, how long and where they were scored."""
    steps = {title: sorted({one[title] for one in folds.values()}) for title in ("steps", "scored at")}
    row = {"folds": ", ".join(folds)} | {title: " and ".join(f"{step:,}" for step in values) for title, values in steps.items()}
    return row | {title: _mean(list(folds.values()), name) for title, name in names.items()}


def _finished(folder: pathlib.Path) -> dict | None:
    """Of a finished stage the `scalars` of its last evaluation, the step that was `scored at`, its `steps`, and the `baseline`'s scores.

    The baseline is a row of evaluation.json, None where that has since become one of other scans.
    """
    status = folder / "status.json"
    if not status.exists() or (status := json.loads(status.read_text()))["state"] != "finished":
        return None
    records = [record for record in logbook.read(folder / "metrics.jsonl") if SCORED in record]
    if not records:
        return None
    last, evaluation = records[-1], workdirs.read_evaluation(folder)
    own = evaluation is not None and loop.OTHER_SCANS not in evaluation["protocol"]
    return {"scalars": last, "scored at": last["step"], "steps": status["step"], "baseline": _baseline(evaluation) if own else None}


def _baseline(evaluation: dict) -> dict:
    (name,) = [name for name in evaluation["tables"] if "held-out" in name and "means" in name]
    return next(row for row in evaluation["tables"][name] if row["by"] == "everything foreground")


def _mean(found: list[dict], name: str) -> float:
    values = [one["scalars"][name] for one in found if one["scalars"].get(name) is not None]
    return float(np.mean(values)) if values else math.nan


def text(tables: dict) -> str:
    """Returns the tables that have rows as Markdown; "-" where there is no figure."""
    parts, words = [], ("by", "folds", "steps", "scored at")
    for title, names in (("scores", SCORES), ("same folds", SCORES), ("audit", AUDIT)):
        head = [*words, *names]
        rows = [[*(row[word] for word in words), *(_figure(row.get(name, math.nan)) for name in names)] for row in tables[title]]
        if not rows and title == "same folds":
            continue
        parts.append("\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)))
    return "\n\n".join(parts) + "\n"


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"
