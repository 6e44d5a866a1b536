"""The command of masked pretraining."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from typing import Any

from finetune.arguments import pretrain_options
from pipeline.cli.display import show
from pipeline.cli.models import figure, inputs, say, told


def pretrain(options: Namespace) -> int:
    """Pretrain a backbone on unlabelled files.

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
        from finetune.pretrain import run_pretrain
        from finetune.watched_trainer import TrainingError

        files = inputs(options)
        if not files:
            raise ValueError(f"no file to read in {' '.join(options.input)}")
        command = f"nightcat {shlex.join(sys.argv[1:])}"
        try:
            return run_pretrain(
                options.modality, files, options.output, options=pretrain_options(options),
                command=command, say=say(options),
            )  # fmt: skip
        except TrainingError as error:  # it tells what to mend, as an error of the options does
            raise ValueError(str(error)) from error

    def tell(found: dict[str, Any]) -> None:
        show(options, found, summary(found))

    return told(work, tell)


def summary(found: dict[str, Any]) -> str:
    """What a pretraining came to, for a person.

    Parameters
    ----------
    found : dict
        From ``run_pretrain``.

    Returns
    -------
    str
        One line for the model, and one for each answer that it is held against.
    """
    errors = dict(found["masked_error"])
    own = errors.pop("model")
    counts = found["data"]["counts"]
    lines = [
        f"{found['path']}: {found['modality']}, {found['n_parameters']} parameters, "
        f"{counts['train']} records trained on, {counts['held_out']} held out",
        f"  masked error of the model    {figure(own)}",
    ]
    for name, value in errors.items():
        lines.append(f"  {name.replace('_', ' '):28} {figure(value)}  (the model leaves {own / value:.0%} of it)")
    return "\n".join(lines)
