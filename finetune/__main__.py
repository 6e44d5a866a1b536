"""``python -m finetune``: train, search, evaluate and card, by the same functions as ``nightcat``."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune.arguments import add_evaluate, add_search, add_train, evaluate_keywords, search_keywords, train_keywords


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process where None.

    Returns
    -------
    int
        0 done, 2 something that the user can mend.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = build_parser().parse_args(arguments)
    from finetune import commands
    from finetune.watched_trainer import TrainingError

    try:
        if options.command == "train":
            report = commands.run_train(
                options.task, options.labels, options.input, options.output, **train_keywords(options),
                command=f"python -m finetune {shlex.join(arguments)}", say=_say,
            )  # fmt: skip
        elif options.command == "search":
            from finetune.search import run_search

            report = run_search(
                options.task, options.labels, options.input, options.output, **search_keywords(options),
                command=f"python -m finetune {shlex.join(arguments)}", say=_say,
            )  # fmt: skip
        elif options.command == "evaluate":
            report = commands.run_evaluate(
                options.bundle, options.labels, options.input, **evaluate_keywords(options), say=_say
            )
        else:
            evaluations = dict(_named(text) for text in options.evaluation)
            _say(f"wrote {commands.run_card(options.bundle, evaluations, options.output)}")
            return 0
    except (ValueError, TrainingError, OSError) as error:  # of ours or of the files: the message says what to mend
        _say(f"error: {error}")
        return 2
    text = json.dumps(report, indent=1)
    if options.command == "evaluate" and options.output:
        Path(options.output).write_text(text + "\n", encoding="utf-8")
    else:
        sys.stdout.write(text + "\n")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Make the parser.

    Returns
    -------
    argparse.ArgumentParser
        Of ``python -m finetune``.
    """
    parser = argparse.ArgumentParser(prog="python -m finetune", description="Fine-tune and judge models.")
    commands = parser.add_subparsers(dest="command", required=True)
    add_train(commands.add_parser("train", help="fine-tune the model of a task on labelled files"))
    add_search(commands.add_parser("search", help="search for the options of a training, and train with the best ones"))
    add_evaluate(commands.add_parser("evaluate", help="judge a model on labelled files, beside its baseline"))
    card = commands.add_parser("card", help="write the model card")
    card.add_argument("bundle", help="folder of the model")
    card.add_argument("--evaluation", action="append", default=[], metavar="TITLE=FILE.json", help="from evaluate")
    card.add_argument("--output", required=True, help="Markdown file")
    return parser


def _named(text: str) -> tuple[str, Any]:
    title, _, path = text.partition("=")
    return title, _read(path)


def _read(path: str) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8")) if path else {}


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
