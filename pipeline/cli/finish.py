"""The command that commits what was detached: finish."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from pipeline.cli import EXIT_ENGINE, EXIT_FOUND, EXIT_OK, EXIT_OUTPUT, EXIT_SUMS, EXIT_USAGE, EXIT_WAITING
from pipeline.cli.display import fail, show, show_table
from pipeline.cli.guard import guarded


def finish(options: Namespace) -> int:
    """Commit the detached runs whose jobs are done, or give one up.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code.
    """
    return guarded(options.catalog, options.night, partial(_finish, options), EXIT_OUTPUT)


def _finish(options: Namespace) -> int:
    from pipeline.detached import abandon
    from pipeline.detached import finish as commit
    from pipeline.quiet import quiet_libraries

    if not 0 <= options.wait < float("inf"):
        return fail(f"--wait {options.wait} is not a number of seconds", EXIT_USAGE)
    if options.abandon and (options.run or options.night or options.wait):
        return fail("--abandon RUN goes without --run, --night and --wait", EXIT_USAGE)
    if options.abandon:
        gone = abandon(options.catalog, options.abandon)
        event = {"event": "abandoned", "night": gone.night, "run_id": gone.run_id, "job": gone.job}
        show(options, event, f"the {gone} is given up; where its job still runs, cancel it: nothing will take its rows")
        return EXIT_OK
    with quiet_libraries(None):  # Beam has something to say when it is imported
        done = commit(options.catalog, options.night, options.run, options.wait)
    if not done:
        show(options, {"finished": 0}, f"{options.catalog}: no detached run is under way")
    return _tell(options, done)


def _tell(options: Namespace, done: Sequence[Any]) -> int:
    """Show what became of each; the exit code is that of the worst."""
    from pipeline.detached import COMMITTED, LOST, STALE, SUMS, UNDER_WAY

    results = [one.result for one in done if one.state == COMMITTED]
    if options.json:
        for one in done:
            show(options, {"event": "finish", **asdict(one)}, "")
    elif results:
        names = sorted({name for result in results for name in result.rows})
        rows = [(r.night, r.run_id, *(r.rows.get(name, 0) for name in names), r.rejects) for r in results]
        show_table(options, f"catalog {options.catalog}", ("night", "run", *names, "rejects"), rows)
    for one in done:
        if one.state == UNDER_WAY:
            show(Namespace(json=False, quiet=options.quiet or options.json), None, *one.told)
        elif one.state == SUMS:
            fail([f"run {one.run_id}: sums do not close, nothing was committed:", *one.told], EXIT_SUMS)
        elif one.state in (STALE, LOST):
            fail(one.told, EXIT_USAGE)
    states = {one.state for one in done}
    for state, code in ((SUMS, EXIT_SUMS), (STALE, EXIT_USAGE), (LOST, EXIT_ENGINE), (UNDER_WAY, EXIT_WAITING)):
        if state in states:
            return code
    return EXIT_FOUND if any(one.strict and one.result and one.result.rejects for one in done) else EXIT_OK
