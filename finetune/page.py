"""A page that a person can read and that stands by itself: tables, and whatever HTML a section holds."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; margin: .5rem 0; }
th, td { padding: .25rem .8rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #8884; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; background: #fff; }
p.lead { font-size: 1.05rem; } code { font-size: .92em; }
"""


def number(value: Any) -> str:
    """A number as a person reads it.

    Parameters
    ----------
    value : object
        Number, None or text.

    Returns
    -------
    str
        Three significant digits for a float; an em dash for None.
    """
    if value is None:
        return "—"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """An HTML table; numbers are set to the right.

    Parameters
    ----------
    header : sequence of str
        Column names.
    rows : sequence of sequence
        Cells.

    Returns
    -------
    str
        HTML.
    """
    right = [
        bool(rows) and all(isinstance(r[i], int | float) or r[i] is None for r in rows) for i in range(len(header))
    ]
    klass = [' class="n"' if flag else "" for flag in right]
    head = "".join(f"<th{k}>{html.escape(name)}</th>" for k, name in zip(klass, header, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{k}>{html.escape(number(v))}</td>" for k, v in zip(klass, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def page(title: str, lead: str, sections: Mapping[str, str]) -> str:
    """A whole page without scripts or links to elsewhere.

    Parameters
    ----------
    title, lead : str
        Plain text.
    sections : mapping of str to str
        HTML by heading.

    Returns
    -------
    str
        HTML.
    """
    body = "".join(f"<h2>{html.escape(name)}</h2>{text}" for name, text in sections.items())
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f'<body><h1>{html.escape(title)}</h1><p class="lead">{html.escape(lead)}</p>{body}</body></html>\n'
    )
