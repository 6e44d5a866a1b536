"""Commands about what is in production: models, promote and rollback."""

from __future__ import annotations

import os
from argparse import Namespace
from functools import partial
from typing import Any

from pipeline.cli import EXIT_FOUND, EXIT_OK, EXIT_USAGE
from pipeline.cli.display import fail, show, show_table
from pipeline.cli.models import figure, inputs, say, told

VARIABLE = "NIGHTCAT_REGISTRY"


def models(options: Namespace) -> int:
    """List which model answers for each task.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code.
    """

    def work() -> dict[str, Any]:
        from finetune.registry_commands import list_models

        return {"models": list_models(registry(options))}

    return told(work, partial(_show_models, options))


def promote(options: Namespace) -> int:
    """Put a model into production, if it holds against the one that is there.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code; 1 where the model was refused.
    """
    where = registry(options)
    if not where:
        return fail(_nowhere("promote"), EXIT_USAGE)
    if bool(options.labels) != bool(options.input):
        return fail("--labels and --input belong together: the test objects and their files", EXIT_USAGE)
    try:
        floors = {name: float(value) for name, value in options.floors or ()}
    except ValueError as error:
        return fail(f"--floor: {error}", EXIT_USAGE)
    decided: list[bool] = []

    def work() -> dict[str, Any]:
        from finetune.registry_commands import run_promote

        return run_promote(
            options.bundle, where, labels=options.labels or "", inputs=inputs(options) if options.input else (),
            floors=floors, radius=options.radius, label_columns=dict(options.label_columns), say=say(options),
        )  # fmt: skip

    def tell(report: dict[str, Any]) -> None:
        decided.append(report["promoted"])
        _show_gate(options, report)

    code = told(work, tell)
    return code if code != EXIT_OK or decided[0] else EXIT_FOUND


def rollback(options: Namespace) -> int:
    """Put the model that was in production before back.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code.
    """
    where = registry(options)
    if not where:
        return fail(_nowhere("rollback"), EXIT_USAGE)

    def work() -> dict[str, Any]:
        from finetune.registry_commands import run_rollback

        return run_rollback(options.task, where)

    return told(
        work, lambda found: show(options, found, f"{found['task']}: {found['production']} is in production again")
    )


def registry(options: Namespace) -> str:
    """Where the models in production lie.

    Parameters
    ----------
    options : Namespace
        With ``registry``.

    Returns
    -------
    str
        That of the option, else of the variable NIGHTCAT_REGISTRY; empty for none.
    """
    return options.registry or os.environ.get(VARIABLE, "")


def _nowhere(command: str) -> str:
    return f"{command} needs --registry, the folder or URL of the models in production (or the variable {VARIABLE})"


def _show_models(options: Namespace, found: dict[str, Any]) -> None:
    rows = [
        (
            model["task"],
            model.get("production") or (f"{model['shipped']} (ships)" if model["shipped"] else "none"),
            model.get("candidate", ""),
            " ".join(model.get("previous", ())),
            _last(model.get("events", ())),
        )
        for model in found["models"]
    ]
    if options.json:
        for model in found["models"]:
            show(options, model, "")
        return
    where = registry(options)
    title = f"registry {where}" if where else "models that ship; --registry names a folder of others"
    show_table(options, title, ("task", "production", "candidate", "previous", "last decision"), rows)


def _last(events: Any) -> str:
    if not events:
        return ""
    event = events[-1]
    return f"{event['what']} {event['digest']} {event['time']}"


def _show_gate(options: Namespace, report: dict[str, Any]) -> None:
    rival = "production" if "production" in report else "the classical answer"
    rows = [(name, figure(value)) for name, value in report.get("differences", {}).items()]
    if rows and not options.json:
        show_table(options, f"candidate minus {rival}, {report['n']} objects", ("figure", "difference"), rows)
    verdict = "promoted" if report["promoted"] else "refused; production stays:"
    lines = [f"{report['task']}: {report['digest']} {verdict}", *(f"  {reason}" for reason in report["refused"])]
    show(options, report, "\n".join(lines))
