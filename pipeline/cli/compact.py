"""The command that merges the runs of a night: compact."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from functools import partial

from pipeline.cli import EXIT_OK, EXIT_OUTPUT
from pipeline.cli.display import show, show_table
from pipeline.cli.guard import guarded


def compact(options: Namespace) -> int:
    """Merge the runs of each night into one.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code.
    """
    return guarded(options.catalog, options.night, partial(_compact, options), EXIT_OUTPUT)


def _compact(options: Namespace) -> int:
    from pipeline.compact import compact as merge

    done = merge(options.catalog, options.night)
    if not done:
        show(options, {"compacted": 0}, f"{options.catalog}: no night holds more than one run")
        return EXIT_OK
    header = ("night", "run_id", "runs", "before", "after")
    rows = [[asdict(one)[name] for name in header] for one in done]
    show_table(options, f"catalog {options.catalog}", ("night", "run", "runs", "files before", "files after"), rows)
    return EXIT_OK
