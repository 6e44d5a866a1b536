"""Commands about models: train and evaluate."""

from __future__ import annotations

import json
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.cli import EXIT_OK, EXIT_USAGE
from pipeline.cli.display import fail, show_table


def train(options: Namespace) -> int:
    """Fine-tune the model of a task.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code.
    """
    chosen: dict[str, Any] = dict(options.set or ()) | {"seed": options.seed}
    if options.steps is not None:
        chosen["steps"] = options.steps

    def work() -> dict[str, Any]:
        from finetune.commands import run_train

        return run_train(
            options.task,
            options.labels,
            _inputs(options),
            options.output,
            options=chosen,
            radius=options.radius,
            command=f"nightcat {shlex.join(sys.argv[1:])}",
            say=_say(options),
        )

    return _judged(options, f"{options.output}: figures on objects that were held out", work)


def evaluate(options: Namespace) -> int:
    """Judge a model against labels, beside its baseline.

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
        from finetune.commands import run_evaluate

        report = run_evaluate(
            options.bundle,
            options.labels,
            _inputs(options),
            other=options.against or "",
            radius=options.radius,
            seen=options.seen,
            device=options.device,
            say=_say(options),
        )
        if options.output:
            Path(options.output).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        return report

    return _judged(options, f"{options.bundle}: figures with 95 % intervals", work)


def adapt(options: Namespace) -> int:
    """Adapt a model to an instrument.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code.
    """
    from pipeline.quiet import quiet_libraries

    try:
        with quiet_libraries(None):
            from finetune.adapt import run_adapt

            command = f"nightcat {shlex.join(sys.argv[1:])}"
            found = run_adapt(options.bundle, _inputs(options), options.output, command=command, say=_say(options))
    except (ValueError, KeyError, OSError) as error:  # of the options, the model or the files: it says what to mend
        return fail(str(error), EXIT_USAGE)
    if options.json:
        print(json.dumps(found))
    elif not options.quiet:
        model = found["model"]
        print(f"adapted; use it: nightcat run --bundle {model['task']}={model['path']} ...")
    return EXIT_OK


def _inputs(options: Namespace) -> list[Any]:
    from pipeline.quiet import voice
    from pipeline.sources import find_files, fingerprint

    with voice(None if options.quiet else sys.stderr):
        return list(fingerprint(find_files(options.input)).files)


def _judged(options: Namespace, title: str, work: Callable[[], dict[str, Any]]) -> int:
    from pipeline.quiet import quiet_libraries

    try:
        with quiet_libraries(None):
            from finetune.trainer import TrainingError

            try:
                report = work()
            except TrainingError as error:
                return fail(str(error), EXIT_USAGE)
    except (ValueError, KeyError, OSError) as error:  # of the options, the labels or the files: it says what to mend
        return fail(str(error), EXIT_USAGE)
    if options.json:
        print(json.dumps(report))
        return EXIT_OK
    metrics = report.get("metrics", {})
    names = list(dict.fromkeys(name for figures in metrics.values() for name in figures))
    rows = [
        [name, *(_figure(metrics.get(kind, {}).get(name)) for kind in ("learned", "baseline", "best"))]
        for name in names
    ]
    show_table(options, f"{title} ({report.get('n', 0)} objects)", ("figure", "learned", "classical", "best"), rows)
    return EXIT_OK


def _figure(value: Any) -> str:
    if value is None or (isinstance(value, list | tuple) and value[0] is None):
        return ""
    if isinstance(value, list | tuple):
        middle, low, high = (f"{v:.4g}" if v is not None else "?" for v in value)
        return f"{middle} [{low}, {high}]"
    return f"{value:.4g}"


def _say(options: Namespace) -> Callable[[str], None]:
    return (lambda text: None) if options.quiet else (lambda text: print(text, file=sys.stderr))
