"""How results are shown: a table for a person, JSON lines for a program, nothing where quiet."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from typing import Any


def fail(sentences: Sequence[str] | str, code: int) -> int:
    """Print what is wrong to standard error.

    Parameters
    ----------
    sentences : sequence of str or str
        One a line.
    code : int
        Exit code, handed through.

    Returns
    -------
    int
        ``code``.
    """
    for sentence in [sentences] if isinstance(sentences, str) else sentences:
        print(f"nightcat: {sentence}", file=sys.stderr)
    return code


def show(options: Namespace, value: Any, text: str) -> None:
    """Print one result.

    Parameters
    ----------
    options : Namespace
        With ``quiet`` and ``json``.
    value : object
        JSON-able form.
    text : str
        Form for a person.
    """
    if options.json:
        print(json.dumps(value, default=str))
    elif not options.quiet:
        print(text)


def show_table(options: Namespace, title: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows as a table, or as a JSON object each.

    Parameters
    ----------
    options : Namespace
        With ``quiet`` and ``json``.
    title : str
        Above the table.
    header : sequence of str
        Column names.
    rows : iterable of sequence
        Values.
    """
    if options.json:
        for row in rows:
            print(json.dumps(dict(zip(header, row, strict=True)), default=str))
        return
    if options.quiet:
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table, highlight=False, markup=False)
