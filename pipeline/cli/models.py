"""Commands about models: train and evaluate."""

from __future__ import annotations

import json
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from finetune.arguments import evaluate_keywords, search_keywords, train_keywords
from pipeline.cli import EXIT_OK, EXIT_USAGE
from pipeline.cli.display import fail, show, show_table


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

    def work() -> dict[str, Any]:
        from finetune.commands import run_train
        from finetune.watched_trainer import TrainingError

        try:
            return run_train(
                options.task, labels(options, options.task), inputs(options), options.output, **train_keywords(options),
                command=called(), say=say(options),
            )  # fmt: skip
        except TrainingError as error:  # it tells what to mend, as an error of the options does
            raise ValueError(str(error)) from error

    return _judged(options, f"{options.output}: figures on objects that were held out", work)


def search(options: Namespace) -> int:
    """Search for the options of a training.

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
        from finetune.search import run_search
        from finetune.watched_trainer import TrainingError

        try:
            return run_search(
                options.task, labels(options, options.task), inputs(options), options.output,
                **search_keywords(options), command=called(), say=say(options),
            )  # fmt: skip
        except TrainingError as error:  # it tells what to mend, as an error of the options does
            raise ValueError(str(error)) from error

    title = f"{options.output}/bundle: figures of the best trial on objects that were held out"
    return _judged(options, title, work)


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
        from finetune.bundle import load_bundle
        from finetune.commands import find_bundle, run_evaluate

        task = load_bundle(find_bundle(options.bundle)).info.task
        report = run_evaluate(
            options.bundle, labels(options, task), inputs(options), **evaluate_keywords(options), say=say(options)
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

    def work() -> dict[str, Any]:
        from finetune.adapt import run_adapt

        return run_adapt(options.bundle, inputs(options), options.output, command=called(), say=say(options))

    def tell(found: dict[str, Any]) -> None:
        model = found["model"]
        show(options, found, f"adapted; use it: nightcat run --bundle {model['task']}={model['path']} ...")

    return told(work, tell)


def export(options: Namespace) -> int:
    """Write a model as a program of ``torch.export``.

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
        from finetune.commands import find_bundle
        from finetune.export import run_export

        return run_export(find_bundle(options.bundle), options.output)

    def tell(found: dict[str, Any]) -> None:
        kinds = {
            key: ", ".join(f"{n} {kind} {shape}" for n, (shape, kind) in found[key].items())
            for key in ("inputs", "outputs")
        }
        text = (
            f"wrote {found['path']}: {found['task']} {found['digest'][:16]}, batches of {found['batch_size']}\n"
            f"  in:  {kinds['inputs']}\n  out: {kinds['outputs']}\n"
            f"  largest difference from the model: {found['difference']:.2g} of an output's largest value"
        )
        show(options, found, text)

    return told(work, tell)


def called() -> str:
    """How the command was called, for the record.

    Returns
    -------
    str
        As a shell takes it.
    """
    return f"nightcat {shlex.join(sys.argv[1:])}"


def inputs(options: Namespace) -> list[Any]:
    """Find the files that ``--input`` names, with their digests.

    Parameters
    ----------
    options : Namespace
        With ``input`` and ``quiet``.

    Returns
    -------
    list of FileRef
        In order.
    """
    from pipeline.quiet import voice
    from pipeline.sources import find_files, fingerprint

    with voice(None if options.quiet else sys.stderr):
        return list(fingerprint(find_files(options.input)).files)


def labels(options: Namespace, task: str) -> Any:
    """Where the labels come from: a file's name, or the rows of a catalog.

    Parameters
    ----------
    options : Namespace
        With ``labels`` and ``label_columns``.
    task : str
        Name of the task.

    Returns
    -------
    str or list of dict
        What ``run_train`` and ``run_evaluate`` take.

    Raises
    ------
    LabelError, CatalogError
        Where the catalog has none.
    """
    from finetune.commands import find_task
    from pipeline.labels import catalog_labels, is_catalog

    if not is_catalog(options.labels):
        return options.labels
    return catalog_labels(options.labels, find_task(task), dict(options.label_columns))


def told(work: Callable[[], dict[str, Any]], tell: Callable[[dict[str, Any]], None]) -> int:
    """Do the work while libraries are quiet, and tell what came of it, or what is to be mended.

    Parameters
    ----------
    work : callable
        ``work() -> dict``.
    tell : callable
        ``tell(what came of it)``.

    Returns
    -------
    int
        Exit code.
    """
    from pipeline.quiet import quiet_libraries

    try:
        with quiet_libraries(None):
            found = work()
    except (ValueError, KeyError, OSError) as error:  # of the options, the labels or the files: it says what to mend
        return fail(str(error), EXIT_USAGE)
    tell(found)
    return EXIT_OK


def _judged(options: Namespace, title: str, work: Callable[[], dict[str, Any]]) -> int:
    return told(work, partial(_show_figures, options, title))


def _show_figures(options: Namespace, title: str, report: dict[str, Any]) -> None:
    if options.json:
        print(json.dumps(report))
        return
    metrics = report.get("metrics", {})
    names = list(dict.fromkeys(name for figures in metrics.values() for name in figures))
    rows = [
        [name, *(figure(metrics.get(kind, {}).get(name)) for kind in ("learned", "baseline", "best"))] for name in names
    ]
    show_table(options, f"{title} ({report.get('n', 0)} objects)", ("figure", "learned", "classical", "best"), rows)


def figure(value: Any) -> str:
    """A number with its interval, as a person reads it.

    Parameters
    ----------
    value : float, or sequence of value, low and high
        None for what is not known.

    Returns
    -------
    str
        Four digits; empty where there is no value.
    """
    if value is None or (isinstance(value, list | tuple) and value[0] is None):
        return ""
    if isinstance(value, list | tuple):
        middle, low, high = (f"{v:.4g}" if v is not None else "?" for v in value)
        return f"{middle} [{low}, {high}]"
    return f"{value:.4g}"


def say(options: Namespace) -> Callable[[str], None]:
    """What tells the user how it goes on.

    Parameters
    ----------
    options : Namespace
        With ``quiet``.

    Returns
    -------
    callable
        Takes a sentence.
    """
    return (lambda text: None) if options.quiet else (lambda text: print(text, file=sys.stderr))
