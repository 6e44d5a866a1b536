"""The command that explains answers: side table, report, pictures."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from pipeline.cli import EXIT_USAGE
from pipeline.cli.display import fail, show_table
from pipeline.cli.models import figure, inputs, say, told

TABLE = "explanations.parquet"
_PARTS = 6


def explain(options: Namespace) -> int:
    """Explain answers of a model.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code.
    """
    if bool(options.input) == bool(options.catalog):
        return fail("explain takes either --input FILES or --catalog CATALOG with --night NIGHT", EXIT_USAGE)
    if bool(options.catalog) != bool(options.night):
        return fail("--catalog and --night go together", EXIT_USAGE)
    return told(lambda: _explain(options), lambda report: _show(options, report))


def _explain(options: Namespace) -> dict[str, Any]:
    from finetune.explain import run_explain
    from finetune.explain_page import check_plots, write_pages
    from finetune.explanation_table import COLUMNS, table_arrays
    from pipeline.explanations import explanation_bytes
    from transforms.store import Store

    check_plots()
    tell = say(options)
    found = run_explain(
        options.bundle, **_objects(options, tell), n=options.n, seed=options.seed, target=options.target,
        method=options.method, steps=options.steps, device=options.device, say=tell,
    )  # fmt: skip
    paths = write_pages(options.output, found)
    Store(options.output).write(TABLE, explanation_bytes(table_arrays(found), COLUMNS))
    tell(f"wrote {paths[0]}, {len(paths) - 3} pictures and {Path(options.output) / TABLE}")
    return found.report


def _objects(options: Namespace, tell: Any) -> dict[str, Any]:
    if options.input:
        return {"inputs": inputs(options)}
    from finetune.bundle import load_bundle
    from finetune.commands import find_bundle
    from pipeline.explanations import night_objects

    bundle = load_bundle(find_bundle(options.bundle))
    found = night_objects(options.catalog, options.night, bundle.info.task, options.n, options.seed)
    if found.digests != (bundle.digest[:16],):
        tell(f"the rows were made by {', '.join(found.digests)}; what is explained is {bundle.digest[:16]}")
    return {
        "inputs": list(found.files),
        "wanted": found.places,
        "reader_options": found.reader_options,
        "measure_options": found.measure_options,
    }


def _show(options: Namespace, report: dict[str, Any]) -> None:
    if options.json:
        import json

        print(json.dumps(report))
        return
    model = report["model"]
    counts = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in report["counts"].items())
    head = ("answer", "unit", "n", "gain by deletion", "by insertion", "like shuffled weights", "decided by")
    rows = []
    for name, target in report["targets"].items():
        faithful = target["faithfulness"]
        gains = (figure(faithful[key]) for key in ("deletion_gain", "insertion_gain"))
        unit = target["unit"] or "log-odds"
        rows.append(
            [name, unit, target["n"], *gains, figure(target["shuffled_weights"]["signed"]), _decided(target["parts"])]
        )
    show_table(options, f"{model['task']} {model['digest']}: {counts}", head, rows)
    kinds = [
        [name, kind["kind"], kind["n"], _decided(kind["parts"])]
        for name, target in report["targets"].items()
        for kind in target["kinds"]
    ]
    if kinds:
        show_table(options, "by kind", ("answer", "objects with", "n", "decided by"), kinds)
    if not options.quiet:
        for name, target in report["targets"].items():
            for sentence in target["verdicts"]:
                print(f"{name}: {sentence}")


def _decided(parts: list[dict[str, Any]]) -> str:
    named = [part for part in parts if part["part"] != "elsewhere"][:_PARTS]
    return ", ".join(f"{part['part']} {part['share']:.0%}" for part in named)
