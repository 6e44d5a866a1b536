"""``python -m finetune``: train, evaluate and card, by the same functions as ``nightcat``."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


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
    from finetune.trainer import TrainingError
    from finetune.training_options import read_settings

    names = dict(text.partition("=")[::2] for text in getattr(options, "label_column", ()))
    try:
        if options.command == "train":
            settings = read_settings(text.partition("=")[::2] for text in options.set)
            report = commands.run_train(
                options.task, options.labels, options.input, options.output, options=settings,
                radius=options.radius, label_columns=names, split=options.split, split_by=options.split_by,
                notes=_read(options.notes), page=options.report,
                command=f"python -m finetune {shlex.join(arguments)}", say=_say,
            )  # fmt: skip
        elif options.command == "evaluate":
            report = commands.run_evaluate(
                options.bundle, options.labels, options.input, other=options.against, radius=options.radius,
                label_columns=names, seen=options.seen, device=options.device, page=options.report, say=_say,
            )  # fmt: skip
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
    train = commands.add_parser("train", help="fine-tune the model of a task on labelled files")
    train.add_argument("task", help="a task's name")
    train.add_argument("--output", required=True, help="folder of the new model")
    train.add_argument("--split", default="", help="split.json of an earlier model, to use again")
    train.add_argument("--split-by", default="group", help="group, or sky:k for HEALPix cells of order k")
    train.add_argument("--notes", default="", help="JSON with sentences for the card: intended_use, data, limits")
    train.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="a training option")
    judge = commands.add_parser("evaluate", help="judge a model on labelled files, beside its baseline")
    judge.add_argument("bundle", help="folder of the model")
    judge.add_argument("--against", default="", help="folder of a model to compare with")
    judge.add_argument("--seen", action="store_true", help="judge on objects that it was trained on, too")
    judge.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N, mps or auto")
    judge.add_argument("--output", default="", help="JSON file for the figures")
    for command in (train, judge):
        command.add_argument("--labels", required=True, help="CSV, ECSV, Parquet, FITS or VOTable")
        command.add_argument("--input", nargs="+", required=True, help="files with the labelled objects")
        command.add_argument("--radius", type=float, default=1.0, help="arcsec, of a match by position")
        command.add_argument("--report", default="", help="folder for a page with plots")
        command.add_argument("--label-column", action="append", default=[], metavar="NAME=COLUMN", help="renames one")
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
