"""The command that watches a catalog: drift."""

from __future__ import annotations

from argparse import Namespace
from functools import partial
from typing import Any

from pipeline.cli import EXIT_OK, EXIT_USAGE
from pipeline.cli.display import fail, show, show_table
from pipeline.cli.guard import guarded
from pipeline.cli.models import say


def drift(options: Namespace) -> int:
    """Tell what drifted.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code; 0 with and without drift.
    """
    return guarded(options.catalog, None, partial(_drift, options))


def _drift(options: Namespace) -> int:
    from finetune.labels import LabelError
    from pipeline.drift import DriftError, Labelled, run_drift

    labels = Labelled(file=options.labels, radius=options.radius, columns=dict(options.label_columns))
    try:
        found = run_drift(
            options.catalog, task=options.task, reference=options.reference,
            labels=labels if options.labels else None, rate=options.alarm, say=say(options),
        )  # fmt: skip
    except (DriftError, LabelError) as error:
        return fail(str(error), EXIT_USAGE)
    if options.json:
        show(options, found, "")
        return EXIT_OK
    window = found["reference"]
    title = (
        f"{options.catalog}: {len(found['watched'])} nights against {window['number']} from {window['first']} to "
        f"{window['last']}; at most {found['rate']:.1%} chance of any alarm in {found['nights']} undisturbed nights"
    )
    if not found["drifted"]:
        show(options, None, f"{title}\n{_nothing(found)}")
        return EXIT_OK
    header = ("table", "kind", "column", "value", "reference", "sigma", "since", "until", "nights", "false alarm")
    show_table(options, title, header, [_row(row) for row in found["drifted"]])
    return EXIT_OK


def _nothing(found: dict[str, Any]) -> str:
    if not found["tables"]:
        return "too few nights: nothing is watched yet"
    return "nothing drifted" if found["watched"] else "no night after the reference yet"


def _row(row: dict[str, Any]) -> tuple[Any, ...]:
    unit = f" {row['unit_name']}" if row["unit_name"] else ""
    levels = ["" if row[name] is None else f"{row[name]:.4g}{unit}" for name in ("value", "reference")]
    return (
        row["table_name"], row["kind"], row["column_name"], *levels, f"{row['significance']:+.1f}", row["since"],
        row["until"], row["nights"], f"{row['false_alarm_probability']:.1g}",
    )  # fmt: skip
