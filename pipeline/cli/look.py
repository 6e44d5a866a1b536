"""Commands that look and change nothing: verify, rejects, tasks, describe, formats."""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter
from functools import partial
from typing import Any

from pipeline.cli import EXIT_FOUND, EXIT_OK, EXIT_USAGE
from pipeline.cli.display import fail, show, show_table
from pipeline.cli.guard import guarded


def verify(options: Namespace) -> int:
    """Check a catalog.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code: 1 where anything is wrong.
    """
    return guarded(options.catalog, None, partial(_verify, options))


def _verify(options: Namespace) -> int:
    from pipeline.verify import verify as check

    faults = check(options.catalog)
    if faults:
        show_table(options, f"{len(faults)} faults", ("what", "where", "sentence"), [tuple(f) for f in faults])
        return fail(f"{options.catalog}: {len(faults)} faults", EXIT_FOUND)
    show(
        options,
        {"catalog": options.catalog, "faults": 0},
        f"{options.catalog}: every count, digest, schema and unit holds",
    )
    return EXIT_OK


def rejects(options: Namespace) -> int:
    """List what was refused.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code.
    """
    return guarded(options.catalog, options.night, partial(_rejects, options))


def _rejects(options: Namespace) -> int:
    from pipeline.ledger import Ledger

    ledger = Ledger(options.catalog)
    if not ledger.runs():
        return fail(f"{options.catalog!r} is no catalog: no run was committed to it", EXIT_USAGE)
    rows = ledger.rejects(options.night)
    if options.all:
        header = ("night", "source", "hdu", "row", "stage", "error", "reason")
        show_table(options, f"{len(rows)} rejects", header, [[r[name] for name in header] for r in rows])
        return EXIT_OK
    count = Counter((r["stage"], r["error"]) for r in rows)
    first = {(r["stage"], r["error"]): r for r in reversed(rows)}
    table = [(n, *key, first[key]["source"], first[key]["reason"]) for key, n in count.most_common()]
    show_table(
        options,
        f"{len(rows)} rejects by reason (--all lists each)",
        ("count", "stage", "error", "for example", "reason"),
        table,
    )
    return EXIT_OK


def tasks(options: Namespace) -> int:
    """List the science tasks.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code.
    """
    from finetune import tasks as registry

    found = [registry.get(name) for name in registry.names()]
    rows = [(t.name, t.version, t.record.__name__, len(t.all_columns()), t.description) for t in found]
    show_table(options, "tasks", ("task", "version", "record", "columns", "what it gives"), rows)
    return EXIT_OK


def describe(options: Namespace) -> int:
    """Describe the columns and flags of a table.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code: 2 for a table that does not exist.
    """
    if options.catalog:
        return guarded(options.catalog, None, partial(_describe_there, options))
    from pipeline.tables import describe_table

    try:
        about = describe_table(options.table)
    except KeyError as error:
        return fail(str(error.args[0]), EXIT_USAGE)
    return _show_table(options, about)


def _describe_there(options: Namespace) -> int:
    """The table as a catalog has it, with the columns of classes that were added to a model."""
    from pipeline.embedded import classes_there
    from pipeline.tables import describe_table

    return _show_table(options, describe_table(options.table, classes_there(options.catalog, options.table)))


def _show_table(options: Namespace, about: dict[str, Any]) -> int:
    if options.json:
        print(json.dumps(about))
        return EXIT_OK
    show(options, None, f"{about['table']}: {about['description']}\n{about['reference']}")
    header = ("name", "type", "unit", "ucd", "description")
    show_table(options, "columns", header, [[c[name] for name in header] for c in about["columns"]])
    show_table(
        options, "flags", ("bit", "name", "meaning"), [(f["bit"], f["name"], f["sentence"]) for f in about["flags"]]
    )
    return EXIT_OK


def list_formats(options: Namespace) -> int:
    """List the file formats that are read.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code.
    """
    from transforms.readers import formats

    rows = [(f.name, f.record.__name__, f.description) for f in formats().values()]
    show_table(options, "formats", ("format", "becomes", "what it is"), rows)
    return EXIT_OK
