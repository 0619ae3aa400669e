"""The page's style: that of a run's report (`training.report.STYLE`) with a dark side, a printed one, and what only this page has."""

from training import report

OWN = """
:root { color-scheme: light dark; --paper: #f5f6f8; --card: #fff; --axis: #aab3bf; --accent: #2563eb;
  --good: #2b8a3e; --warn: #b25c00; --code: #f0f2f5;
  --s0: #2563eb; --s1: #d9480f; --s2: #2b8a3e; --s3: #862e9c; }
body { background: var(--paper); overflow-wrap: anywhere; }
.card, figure { background: var(--card); }
h2 { font-size: 20px; margin: 52px 0 10px; }
h3 { margin: 22px 0 8px; }
.card > h3:first-child, figure > h3:first-child { margin-top: 0; }
p { max-width: 90ch; margin: 0; }
.part > * + * { margin-top: 16px; }
.part > h2 + * { margin-top: 0; }
.part > p + * { margin-top: 10px; }
.part > pre + p, .part > div + p { margin-top: 18px; }
a { color: inherit; text-decoration-color: var(--axis); text-underline-offset: 3px; }
a:focus-visible, .scroll:focus-visible, pre:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 18px 0 0; font-size: 14px; }
.source { border-left: 4px solid var(--accent); border-radius: 0 10px 10px 0; padding: 10px 16px; margin: 18px 0; max-width: none;
  background: var(--card); color: var(--ink); }
.numbers { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(min(150px, 100%), 1fr)); margin: 18px 0 0; padding: 0; }
.numbers div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; }
.numbers dt { color: var(--soft); font-size: 13px; }
.numbers dd { margin: 2px 0 0; font-size: 22px; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.25; }
.numbers small { display: block; font-size: 12.5px; font-weight: 400; color: var(--soft); }
.verdicts { list-style: none; padding: 0; margin: 14px 0 0; display: grid; gap: 8px; }
.verdicts li { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 9px 14px 9px 40px; position: relative; }
.verdicts li::before { position: absolute; left: 14px; font-weight: 700; }
.good::before { content: "\\2713"; color: var(--good); }
.warn::before { content: "!"; color: var(--warn); }
.plain::before { content: "\\2013"; color: var(--soft); }
.missing { border: 1px dashed var(--axis); border-radius: 10px; padding: 10px 14px; color: var(--soft); max-width: none; }
.gallery { display: grid; gap: 10px; grid-template-columns: repeat(6, 1fr); }
.gallery.large { grid-template-columns: repeat(4, 1fr); gap: 14px; }
.gallery figure { border: 0; background: none; padding: 0; border-radius: 0; }
.gallery figcaption { font-size: 12px; margin-top: 3px; }
.pairs { display: grid; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(min(340px, 100%), 1fr)); }
.pairs > figure { padding: 12px 14px; }
.row { display: flex; gap: 6px; align-items: flex-start; }
.row > div { flex: 1 1 0; min-width: 0; }
.row span { display: block; color: var(--soft); font-size: 12px; margin-top: 3px; }
.halves { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); align-items: start; }
.relief text { font-size: 15px; }
.relief .axis, svg .frame { stroke: var(--axis); }
svg .rule { stroke: var(--line); }
svg .axis { stroke: var(--axis); }
.s0 { stroke: var(--s0); color: var(--s0); }
.s1 { stroke: var(--s1); color: var(--s1); }
.s2 { stroke: var(--s2); color: var(--s2); }
.s3 { stroke: var(--s3); color: var(--s3); }
.legend i { background: currentColor; }
svg .dot, svg .bar { fill: currentColor; stroke: none; }
svg .dashed { stroke-dasharray: 4 4; stroke: var(--soft); }
svg text.ink { fill: var(--ink); }
.scroll { max-height: 420px; background:
  linear-gradient(90deg, var(--card) 30%, transparent) left / 32px 100% no-repeat local,
  linear-gradient(270deg, var(--card) 30%, transparent) right / 32px 100% no-repeat local,
  linear-gradient(90deg, rgb(0 0 0 / .22), transparent) left / 10px 100% no-repeat scroll,
  linear-gradient(270deg, rgb(0 0 0 / .22), transparent) right / 10px 100% no-repeat scroll; }
.scroll.wide { max-height: none; }
.scroll.wide img { min-width: 720px; }
.scroll table { width: auto; min-width: 100%; font-size: 14px; }
.scroll th, .scroll td { padding-right: 12px; }
.scroll + p { margin-top: 8px; font-size: 13px; }
.scroll th, .scroll td { overflow-wrap: normal; }
.scroll th, .scroll td { white-space: nowrap; }
.scroll td.words { white-space: normal; min-width: 26ch; max-width: 46ch; overflow-wrap: anywhere; }
td.number, th.number { padding-left: 8px; }
code { font: 13px/1.4 ui-monospace, "Cascadia Mono", "DejaVu Sans Mono", monospace; white-space: nowrap; }
pre { background: var(--code); border-radius: 8px; padding: 12px 14px; overflow: auto; margin: 8px 0 16px; }
pre code { white-space: pre; }
footer { margin-top: 56px; color: var(--soft); font-size: 13px; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e4e9f0; --soft: #9aa7b8; --line: #2a3442; --paper: #0f141b; --card: #171e28; --axis: #51607a; --accent: #7aa2ff;
    --good: #69c97f; --warn: #f0a24e; --code: #10161e;
    --s0: #7aa2ff; --s1: #ff9a5c; --s2: #69c97f; --s3: #d79bea; }
}
@media (max-width: 560px) {
  main { padding: 24px 14px 48px; }
  h1 { font-size: 23px; }
  h2 { margin-top: 40px; }
  .card, figure { padding: 12px; }
  .gallery { grid-template-columns: repeat(3, 1fr); gap: 6px; }
  .gallery.large { grid-template-columns: repeat(2, 1fr); gap: 8px; }
  .facts th { width: 8em; }
  .scroll th { white-space: normal; }
  .scroll td.words { min-width: 16ch; }
  pre code { white-space: pre-wrap; }
  pre span { display: inline-block; max-width: 100%; }
  svg text { font-size: 15px; }
  .relief text { font-size: 19px; }
}
@media print {
  :root { color-scheme: light; --paper: #fff; }
  body { font-size: 12px; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  h1 { font-size: 22px; }
  h2 { margin-top: 26px; font-size: 16px; }
  h2, h3 { break-after: avoid; }
  .numbers { grid-template-columns: repeat(5, 1fr); }
  .halves { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); }
  .halves > .broad, .halves:has(> .broad) > figure { grid-column: 1 / -1; }
  .halves:has(> .broad) > figure svg { max-width: 75%; margin: 0 auto; }
  .pairs { grid-template-columns: repeat(3, 1fr); }
  .gallery { grid-template-columns: repeat(6, 1fr); }
  .gallery.large { grid-template-columns: repeat(4, 1fr); }
  .scroll, pre { max-height: none; overflow: visible; }
  .scroll { background: none; }
  .scroll table { font-size: 10.5px; }
  .scroll th, .scroll td, .scroll td.words { white-space: normal; min-width: 0; padding-right: 8px; overflow-wrap: anywhere; }
  .fine .scroll table { font-size: 9px; }
  .fine .scroll th, .fine .scroll td { padding: 3px 4px 3px 0; }
  .fine .scroll th { font-size: 8px; }
  .scroll.wide img { min-width: 0; }
  pre code { white-space: pre-wrap; }
  pre span { display: inline-block; max-width: 100%; }
  .card.long { break-inside: auto; }
  tr, .verdicts li { break-inside: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""

STYLE = report.STYLE + OWN
