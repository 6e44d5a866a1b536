"""The periodic job: retrain."""

from __future__ import annotations

from argparse import Namespace
from functools import partial
from typing import Any

from pipeline.cli import EXIT_FOUND, EXIT_OK, EXIT_OUTPUT, EXIT_USAGE
from pipeline.cli.display import fail, show, show_table
from pipeline.cli.guard import guarded
from pipeline.cli.models import figure, say, told
from pipeline.cli.registry import VARIABLE, registry


def retrain(options: Namespace) -> int:
    """Train again where there is a reason to.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code: 0 where there was nothing to do or a model was promoted, 1 where one was refused or failed.
    """
    if not registry(options):
        return fail(f"retrain needs --registry, the folder of the models in production (or {VARIABLE})", EXIT_USAGE)
    try:
        floors = {name: float(value) for name, value in options.floors or ()}
    except ValueError as error:
        return fail(f"--floor: {error}", EXIT_USAGE)
    return guarded(options.catalog, None, partial(_retrain, options, floors), EXIT_OUTPUT)


def _retrain(options: Namespace, floors: dict[str, float]) -> int:
    from finetune import tasks

    names = [options.task] if options.task else _labelled(options, tasks.names())
    if not names:
        return fail(f"labels {options.labels!r} hold no column that a task learns; name one with --task", EXIT_USAGE)
    codes = []
    for name in names:
        outcome: list[dict[str, Any]] = []

        def tell(report: dict[str, Any], outcome: list[dict[str, Any]] = outcome) -> None:
            outcome.append(report)
            _show(options, report)

        code = told(partial(_work, options, name, floors), tell)
        bad = bool(outcome) and outcome[0]["outcome"] in ("refused", "failed")
        codes.append(EXIT_FOUND if code == EXIT_OK and bad else code)
    return max(codes)


def _work(options: Namespace, task: str, floors: dict[str, float]) -> dict[str, Any]:
    from finetune.added_classes import taught_examples
    from finetune.commands import find_task
    from finetune.registry import Registry
    from finetune.retrain import Policy, production_model, run_retrain
    from finetune.training_options import read_settings
    from pipeline.retrain import gather

    named = {name: getattr(options, name) for name in ("method", "steps", "seed")}
    given = read_settings(options.set) | {name: value for name, value in named.items() if value is not None}
    material = gather(
        options.catalog, task, options.labels, radius=options.radius, columns=dict(options.label_columns),
        options=given, taught=taught_examples(production_model(Registry(registry(options)), find_task(task))),
        add=options.classes or (),
    )  # fmt: skip
    policy = Policy(
        min_labels=options.min_labels, max_age=options.max_age, floors=floors, class_labels=options.class_labels
    )
    return run_retrain(task, material, registry(options), policy, dry_run=options.dry_run, say=say(options))


def _labelled(options: Namespace, names: tuple[str, ...]) -> list[str]:
    """Tasks whose label columns the file has."""
    from finetune import tasks
    from finetune.labels import LabelError, read_labels

    found = []
    for name in names:
        try:
            read_labels(options.labels, tasks.get(name).label_columns, dict(options.label_columns))
        except LabelError:
            continue
        found.append(name)
    return found


def _show(options: Namespace, report: dict[str, Any]) -> None:
    if options.json:
        show(options, report, "")
        return
    gate, held = report.get("gate", {}), report.get("held_out", {})
    for title, part in (
        (f"frozen test, {gate.get('n', 0)} objects: candidate minus production", gate.get("differences", {})),
        (
            f"new objects, {held.get('n', 0)}: candidate minus former production",
            held.get("against", {}).get("best", {}),
        ),
    ):
        if part:
            show_table(
                options, title, ("figure", "difference"), [(name, figure(value)) for name, value in part.items()]
            )
    for name, one in report.get("added", {}).items():
        rows = [(kind, f"{one[kind]['found']} of {one['objects']}", f"{one[kind]['false']} of {one['others']}")
                for kind in ("taught", "full")]  # fmt: skip
        show_table(
            options,
            f"class {name}: not trained on, {one['examples']} of them taught by",
            ("as", "found", "others named so"),
            rows,
        )
    lines = [f"{report['task']}: {report['outcome']}"]
    lines += [f"  {reason}" for reason in (*report["reasons"], *gate.get("refused", ()))]
    lines += [f"  class {name!r} is not a full one: {why}" for name, why in report.get("waiting", {}).items()]
    lines += [f"  {report['error']}"] if "error" in report else []
    lines += [f"  report: {report['path']}/report.md"] if "path" in report else []
    show(options, None, "\n".join(lines))
