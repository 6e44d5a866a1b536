"""Which training options a search may try, and over which values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune.task import Task
from finetune.training_options import OptionsError, TrainingOptions, make_options, read_settings

#: Options that change what the validation loss means, or what is compared with what.
FIXED = ("loss", "label_smoothing", "class_weights", "seed", "device", "checkpoints", "resume", "tensorboard", "start",
         "members", "storage", "evaluations", "augment", "augment_copies")  # fmt: skip
FORM = "NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=A,B,C"
_NUMBER = r"[-+0-9.eE]+"


@dataclass(frozen=True, slots=True)
class Range:
    """Values between two limits.

    Parameters
    ----------
    low, high : float or int
        Limits; where both are int, so are the values.
    log : bool
        Even in the logarithm.
    """

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some values.

    Parameters
    ----------
    values : tuple
        Numbers, texts, truths.
    """

    values: tuple[Any, ...]


Space = Mapping[str, Range | Choice]


def default_space(options: TrainingOptions) -> dict[str, Range | Choice]:
    """What is searched where the user says nothing: rate, decay, dropout, batch, rates by depth.

    Parameters
    ----------
    options : TrainingOptions
        What a training would use without a search.

    Returns
    -------
    dict of str to Range or Choice
        The task's own values lie within.
    """
    rate, batch = options.learning_rate, options.batch_size
    return {
        "learning_rate": Range(rate / 10, min(rate * 10, 10.0), log=True),
        "weight_decay": Range(1e-4, 0.3, log=True),
        "dropout": Range(0.0, 0.4),
        "lr_decay": Range(0.6, 1.0),
        "batch_size": Choice(tuple(sorted({max(batch // 2, 1), batch, 2 * batch}))),
    }


def parse_space(pairs: Mapping[str, str], options: TrainingOptions, task: Task) -> dict[str, Range | Choice]:
    """Read what is searched.

    Parameters
    ----------
    pairs : mapping of str to str
        Option to its values, as ``FORM`` says.
    options : TrainingOptions
        Of the training; the default space is made from them where ``pairs`` is empty.
    task : Task
        To try the limits on.

    Returns
    -------
    dict of str to Range or Choice
        Sorted by name.

    Raises
    ------
    OptionsError
        With every fault.
    """
    if not pairs:
        return default_space(options)
    space: dict[str, Range | Choice] = {}
    faults: list[str] = []
    for name, text in sorted(pairs.items()):
        if name in FIXED:
            faults.append(f"--space {name}: it is the same in all trials, or their losses could not be compared")
            continue
        try:
            space[name] = _parse(name, text)
        except ValueError as error:
            faults.append(str(error))
            continue
        found = space[name]
        for value in (found.low, found.high) if isinstance(found, Range) else found.values:
            try:
                make_options(task, {**options.as_dict(), name: value})
            except OptionsError as error:
                faults += [f"--space: {fault}" for fault in error.faults]
    if faults:
        raise OptionsError(list(dict.fromkeys(faults)))
    return space


def _parse(name: str, text: str) -> Range | Choice:
    match = re.fullmatch(rf"({_NUMBER}):({_NUMBER})(:log)?", text)
    if match is None:
        values = tuple(read_settings((name, part) for part in [one])[name] for one in text.split(",") if one)
        if len(values) < 2:
            raise ValueError(f"--space {name}={text}: not of the form {FORM}")
        return Choice(values)
    low, high = (read_settings([(name, part)])[name] for part in match.groups()[:2])
    if isinstance(low, str) or isinstance(high, str) or not low < high or (match[3] and low <= 0):
        what = "numbers above 0 that rise" if match[3] else "numbers that rise"
        raise ValueError(f"--space {name}={text}: the limits are not {what}")
    return Range(low, high, bool(match[3]))
