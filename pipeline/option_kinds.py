"""Kinds of option values: a configuration file can hold anything, so each value is taken only as what it must be."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

AUTO = "auto"  #: For a number that is better chosen once the inputs are known.


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value must be.

    Parameters
    ----------
    words : str
        End of the sentence ``X is not ...``.
    take : callable
        ``take(value) -> value``: the value in the form that ``RunConfig`` has; raises TypeError for another kind.
    """

    words: str
    take: Callable[[Any], Any]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise TypeError


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list | tuple):
        return tuple(_text(item) for item in value)
    raise TypeError


def _pairs(value: Any) -> dict[str, str]:
    if isinstance(value, Mapping):
        return {_text(key): _text(item) for key, item in value.items()}
    raise TypeError


def _night(value: Any) -> str:
    if isinstance(value, date) and not isinstance(value, datetime):  # TOML has dates of its own
        return value.isoformat()
    return _text(value)


def _whole(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise TypeError


def _number(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return value
    raise TypeError


def _whole_or_auto(value: Any) -> int | str:
    return value if value == AUTO else _whole(value)


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise TypeError


TEXT, TEXTS = Kind("text", _text), Kind("a text or a list of texts", _texts)
PAIRS = Kind("a table of texts", _pairs)
WHOLE, NUMBER, TRUTH = Kind("a whole number", _whole), Kind("a number", _number), Kind("true or false", _truth)
KINDS: Mapping[str, Kind] = {
    "inputs": TEXTS,
    "output": TEXT,
    "night": Kind("a date like 2026-11-24", _night),
    "tasks": TEXTS,
    "bundles": PAIRS,
    "registry": TEXT,
    "device": TEXT,
    "dtype": TEXT,
    "threads": WHOLE,
    "engine": TEXT,
    "runner": TEXT,
    "workers": Kind("a whole number or auto", _whole_or_auto),
    "retries": Kind("a whole number or auto", _whole_or_auto),
    "accelerator": TEXT,
    "min_ram": TEXT,
    "beam_options": TEXTS,
    "order": WHOLE,
    "targets": TEXT,
    "threshold": NUMBER,
    "light_curves": PAIRS,
    "embeddings": TRUTH,
    "checksums": TRUTH,
    "strict": TRUTH,
    "force": TRUTH,
    "detach": TRUTH,
}
_FLAGS = {"inputs": "--input", "bundles": "--bundle", "light_curves": "--light-curve-columns"}
_NO_FLAG = (
    "beam_options",
    "embeddings",
    "checksums",
    "strict",
    "force",
    "detach",
)  #: Nobody gives them a value on the command line.


def flag(name: str) -> str:
    """What a fault calls an option.

    Parameters
    ----------
    name : str
        Field of ``RunConfig``.

    Returns
    -------
    str
        The flag on the command line, or the key where there is none that takes a value.
    """
    return name if name in _NO_FLAG else _FLAGS.get(name, f"--{name}")


def take(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Take each value as the kind that its option needs.

    Parameters
    ----------
    values : mapping
        By field of ``RunConfig``.

    Returns
    -------
    tuple of dict and list of str
        Values of the right kind; a sentence for each of the others.
    """
    taken: dict[str, Any] = {}
    faults = []
    for name, value in values.items():
        try:
            taken[name] = KINDS[name].take(value)
        except TypeError:
            faults.append(f"{flag(name)} {value!r} is not {KINDS[name].words}")
    return taken, faults
