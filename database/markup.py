"""Pieces of the page: what is text is escaped here, what is a picture is stored inside."""

import base64
import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from microscopy.pictures import encode_png

SMALL = 128
"""Pictures up to so many px wide are enlarged pixel by pixel: what the network made is to be seen as it is."""

BROAD = 5
"""Columns up to which a table has room in half a printed page."""


def escaped(words: Any) -> str:
    """Returns the words as text of a page, safe between tags and in attributes."""
    return html.escape(str(words))


def image(picture: np.ndarray, alt: str) -> str:
    """Returns an `<img>` of a uint8 picture (h, w), (h, w, 1) or RGB (h, w, 3) with the words for those who do not see it."""
    source, (height, width) = base64.b64encode(encode_png(picture)).decode(), picture.shape[:2]
    small = ' class="small"' if width <= SMALL else ""
    return f'<img{small} src="data:image/png;base64,{source}" alt="{escaped(alt)}" width="{width}" height="{height}">'


def figure(picture: np.ndarray, alt: str, caption: str = "") -> str:
    """Returns a `<figure>` of a picture as in `image` over its caption."""
    return f"<figure>{image(picture, alt)}{_caption(caption)}</figure>"


def wide(picture: np.ndarray, alt: str, caption: str = "") -> str:
    """Returns a `<figure>` of a picture that scrolls in its box where the page is too narrow to see anything in it."""
    box = f'<div class="scroll wide" tabindex="0" role="region" aria-label="{escaped(alt)}">{image(picture, alt)}</div>'
    return f"<figure>{box}{_caption(caption)}</figure>"


def drawing(svg: str, title: str = "", caption: str = "") -> str:
    """Returns a `<figure>` of markup that is already safe, under its title and over its caption."""
    head = f"<h3>{escaped(title)}</h3>" if title else ""
    return f"<figure>{head}{svg}{_caption(caption)}</figure>"


def side_by_side(pictures: Mapping[str, np.ndarray], alt: str, caption: str = "") -> str:
    """Returns a `<figure>` of pictures in one row, each over its name."""
    cells = "".join(f"<div>{image(picture, f'{alt}: {name}')}<span>{escaped(name)}</span></div>" for name, picture in pictures.items())
    return f'<figure><div class="row">{cells}</div>{_caption(caption)}</figure>'


def group(kind: str, parts: Iterable[str]) -> str:
    """Returns the parts in a `<div>` of the class `kind`, "" where there are none."""
    inside = "".join(parts)
    return f'<div class="{kind}">{inside}</div>' if inside else ""


def section(name: str, title: str, lead: str, *parts: str) -> str:
    """Returns a `<section>` with a heading that can be linked to, and one paragraph before its parts."""
    words = f"<p>{escaped(lead)}</p>" if lead else ""
    return f'<section class="part" id="{name}"><h2>{escaped(title)}</h2>{words}{"".join(parts)}</section>'


def missing(words: str) -> str:
    """Returns a paragraph that says what there is not, and why."""
    return f'<p class="missing">{_flags_whole(words)}</p>'


def note(words: str) -> str:
    """Returns a paragraph."""
    return f"<p>{_flags_whole(words)}</p>" if words else ""


def command(line: str) -> str:
    """Returns a `<pre>` of a command whose words stay whole where they fit into a line: it would be broken after the hyphens of flags."""
    words = " ".join(f"<span>{escaped(word)}</span>" for word in line.split(" "))
    return f'<pre tabindex="0"><code>{words}</code></pre>'


def _flags_whole(words: str) -> str:
    """The words, escaped, with flags as code: a line would be broken after their hyphens."""
    return re.sub("--[a-z_]+[^ ;,)]*[^ ;,).]", lambda flag: f"<code>{flag[0]}</code>", escaped(words))


def facts(rows: Mapping[str, Any]) -> str:
    """Returns a card of names and what belongs to them; those with nothing are left out."""
    lines = "".join(
        f'<tr><th scope="row">{escaped(name)}</th><td>{cell(value)}</td></tr>' for name, value in rows.items() if value not in ("", None)
    )
    return f'<div class="card"><table class="facts">{lines}</table></div>' if lines else ""


def table(title: str, rows: Sequence[Mapping[str, Any]], caption: str = "") -> str:
    """Returns a card with a table of the rows that scrolls in its box, "" without rows; columns of numbers stand to the right."""
    if not rows:
        return ""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    number = {column: all(_is_number(row.get(column)) for row in rows) for column in columns}
    kind = {column: ' class="number"' if number[column] else "" for column in columns}
    head = "".join(f'<th scope="col"{kind[column]}>{escaped(column)}</th>' for column in columns)
    body = "".join(f"<tr>{''.join(_td(row.get(column), kind[column]) for column in columns)}</tr>" for row in rows)
    name = f"<h3>{escaped(title)}</h3>" if title else ""
    long = (" long" if len(rows) > 15 else "") + (" broad" if len(columns) > BROAD else "") + (" fine" if len(columns) > 2 * BROAD else "")
    label = escaped(title or "table")
    box = f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table><tr>{head}</tr>{body}</table></div>'
    return f'<div class="card{long}">{name}{box}{_caption(caption, "p")}</div>'


def _td(value: Any, kind: str) -> str:
    long = ' class="words"' if isinstance(value, str) and len(value) > 40 and " " in value else ""
    return f"<td{kind or long}>{cell(value)}</td>"


def cell(value: Any) -> str:
    """Returns a value as it is shown in a table: five digits of a number, twelve of a SHA-256, nothing for None and NaN."""
    if value is None or isinstance(value, float | np.floating) and math.isnan(value):
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        return f"{value:,.4g}" if abs(value) < 1e5 else f"{value:.4g}"
    words = str(value)
    if len(words) == 64 and all(letter in "0123456789abcdef" for letter in words):
        return f'<code title="{words}">{words[:12]}</code>'
    return escaped(words)


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _caption(words: str, tag: str = "figcaption") -> str:
    return f"<{tag}>{escaped(words)}</{tag}>" if words else ""
