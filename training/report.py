"""report.html: one file that shows a run to people (facts, scores, samples, curves), with nothing to download or run."""

import base64
import html
import os
import pathlib
import re
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from microscopy import atomic, pictures
from training import logbook
from training.curves import Series, chart

STYLE = """
:root { color-scheme: light; --ink: #1c2430; --soft: #5d6878; --line: #e3e7ed; }
body { margin: 0; background: #f5f6f8; color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 40px 0 12px; }
h3 { font-size: 14px; margin: 0 0 6px; overflow-wrap: anywhere; }
p { color: var(--soft); margin: 0 0 16px; }
.card, figure { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px; margin: 0; }
.cards { display: grid; gap: 16px; grid-template-columns: repeat(auto-fill, minmax(min(440px, 100%), 1fr)); align-items: start; }
.pictures { display: grid; gap: 16px; grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); align-items: start; }
.scroll { overflow: auto; max-height: 480px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th, td { text-align: left; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
tr:last-child > * { border-bottom: 0; }
th { font-weight: 600; }
.facts th { color: var(--soft); font-weight: 500; width: 12em; }
td.number, th.number { text-align: right; white-space: nowrap; }
figcaption { color: var(--soft); font-size: 13px; margin-top: 6px; }
figcaption:empty { display: none; }
img { display: block; width: 100%; height: auto; border-radius: 4px; }
img.small { image-rendering: pixelated; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 18px; margin: 0 0 4px; padding: 0; }
.legend li { font-size: 13px; color: var(--soft); }
.legend i { display: inline-block; width: 14px; height: 3px; border-radius: 2px; margin-right: 6px; vertical-align: middle; }
.legend b { color: var(--ink); font-weight: 600; font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; height: auto; overflow: hidden; }
svg text { font-size: 11.5px; fill: var(--soft); font-variant-numeric: tabular-nums; }
svg path { fill: none; stroke-linejoin: round; stroke-linecap: round; }
svg .solid { stroke-width: 1.8; }
svg .pale { stroke-width: 1; opacity: .28; }
svg .rule { stroke: var(--line); }
svg .axis { stroke: #aab3bf; }
@media print { body { background: #fff; } figure, .card { break-inside: avoid; } }
"""


def write_report(workdir: str | os.PathLike, *, title: str, facts: Mapping[str, str], evaluation: Mapping[str, Any] | None) -> pathlib.Path:
    """Returns WORKDIR/report.html, written whole or not at all from metrics.jsonl and samples/ of the workdir.

    `facts` are the lines of the headline (config, device, data, throughput). `evaluation` has the fields of
    `training.task.Evaluation`: `protocol`, `scalars`, `tables` (lists of rows) and `figures` (uint8 pictures), each optional; any
    other plain value in it is shown with the scalars. Raises RunError where metrics.jsonl is damaged or the disk refuses.
    """
    workdir = pathlib.Path(workdir)
    records = logbook.read(workdir / "metrics.jsonl")
    last = max((record["step"] for record in records), default=0)
    count = f"{len(records):,} log points up to step {last:,}" if records else "nothing logged yet"
    parts = [f"<h1>{html.escape(title)}</h1><p>{count}</p>", _facts(facts), _evaluation(evaluation or {})]
    parts += [_samples(workdir / "samples"), _curves(series(records), last)]
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n<body><main>\n" + "\n".join(parts) + "\n</main></body></html>\n"
    )
    path = workdir / "report.html"
    with logbook.writing(path):
        return atomic.write_bytes(path, page.encode())


def series(records: Sequence[Mapping[str, Any]]) -> dict[str, Series]:
    """Returns name -> (steps, values) of every scalar in the log, in order of first appearance; what is not a finite number is left out."""
    points: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        for name, value in record.items():
            if name not in ("step", "time") and isinstance(value, int | float) and np.isfinite(value):
                points.setdefault(name, []).append((record["step"], value))
    return {name: (np.array([step for step, _ in pairs]), np.array([value for _, value in pairs], float)) for name, pairs in points.items()}


def arrange(curves: Mapping[str, Series]) -> dict[str, dict[str, list[str]]]:
    """Returns section -> chart title -> names of its curves.

    Curves of the same suffix under several prefixes (`generator/loss`, `discriminator/loss`) share one chart, in the
    section "", unless that flattens one to less than a 20th of the axis. Every other curve has its own chart in the
    section of its prefix; names without a prefix stand under "run".
    """
    by_suffix: dict[str, list[str]] = {}
    for name in curves:
        by_suffix.setdefault(name.partition("/")[2] or name, []).append(name)
    sections: dict[str, dict[str, list[str]]] = {"": {}}
    for suffix, names in by_suffix.items():
        ranges = np.array([np.percentile(curves[name][1], [1, 99]) for name in names])
        spans = np.ptp(ranges, axis=1)
        if len(names) > 1 and np.ptp(ranges) <= 20 * min(spans[spans > 0], default=np.inf):
            sections[""][suffix] = names
            continue
        for name in names:
            prefix, slash, rest = name.partition("/")
            sections.setdefault(prefix if slash else "run", {})[rest or name] = [name]
    return {section: charts for section, charts in sections.items() if charts}


def _curves(curves: Mapping[str, Series], last_step: int) -> str:
    if not curves:
        return "<h2>Curves</h2><p>metrics.jsonl is absent or holds no scalar.</p>"
    parts = ["<h2>Curves</h2>"]
    if any(len(values) > 200 for _, values in curves.values()):
        parts.append("<p>Noisy curves: pale as logged (peaks kept), solid the running mean over 2 % of the points.</p>")
    for section, charts in arrange(curves).items():
        figures = [chart(title, {name: curves[name] for name in names}, last_step) for title, names in charts.items()]
        parts.append((f"<h2>{html.escape(section)}</h2>" if section else "") + f'<div class="cards">{"".join(figures)}</div>')
    return "\n".join(parts)


def _facts(facts: Mapping[str, str]) -> str:
    rows = "".join(f"<tr><th>{html.escape(str(name))}</th><td>{html.escape(str(value))}</td></tr>" for name, value in facts.items())
    return f'<div class="card"><table class="facts">{rows}</table></div>' if rows else ""


def _evaluation(evaluation: Mapping[str, Any]) -> str:
    words = f"<p>{html.escape(evaluation['protocol'])}</p>" if evaluation.get("protocol") else ""
    shown = {name: value for name, value in evaluation.items() if name != "protocol"}
    plain = {name: value for name, value in shown.items() if value is None or isinstance(value, str | int | float | np.generic)}
    tables = dict(evaluation.get("tables") or {})
    scalars = plain | dict(evaluation.get("scalars") or {})
    parts = [_table("", [{"score": name, "value": value} for name, value in scalars.items()])] if scalars else []
    parts += [_table(name, rows) for name, rows in tables.items() if rows]
    drawn = [_picture(pictures.encode_png(picture), name) for name, picture in dict(evaluation.get("figures") or {}).items()]
    return f'<h2>Evaluation</h2>{words}<div class="cards">{"".join(parts + drawn)}</div>' if parts or drawn else ""


def _table(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    number = {column: all(isinstance(row.get(column) or 0, int | float | np.number) for row in rows) for column in columns}
    kind = {column: ' class="number"' if number[column] else "" for column in columns}
    head = "".join(f"<th{kind[column]}>{html.escape(str(column))}</th>" for column in columns)
    lines = ["".join(f"<td{kind[column]}>{_cell(row.get(column))}</td>" for column in columns) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    title = f"<h3>{html.escape(name)}</h3>" if name else ""
    return f'<div class="card">{title}<div class="scroll"><table><tr>{head}</tr>{body}</table></div></div>'


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f"{value:,.5g}" if abs(value) < 1e5 else f"{value:.5g}"
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return f"{value:,}"
    return "" if value is None else html.escape(str(value))


def _samples(folder: pathlib.Path) -> str:
    steps = {path: int(found[1]) for path in folder.glob("step_*.png") if (found := re.fullmatch(r"step_(\d+)\.png", path.name))}
    ordered = sorted(steps, key=steps.get)
    if not ordered:
        return ""
    chosen = dict.fromkeys([ordered[0], ordered[len(ordered) // 2], ordered[-1]])
    drawn = [_picture(path.read_bytes(), f"step {steps[path]:,}") for path in chosen]
    crops = folder.parent / "training_crops" / "step_00000000.png"
    drawn += [_picture(crops.read_bytes(), "training crops")] if crops.exists() else []
    return f'<h2>Samples</h2><div class="pictures">{"".join(drawn)}</div>'


def _picture(png: bytes, caption: str) -> str:
    width = struct.unpack(">I", png[16:20])[0] if len(png) > 24 else 0  # PNG: signature, then IHDR, which opens with the width
    size = ' class="small"' if width < 400 else ""
    source = base64.b64encode(png).decode()
    words = html.escape(caption)
    return f'<figure><img{size} src="data:image/png;base64,{source}" alt="{words}"><figcaption>{words}</figcaption></figure>'
