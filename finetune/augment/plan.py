"""What the user asked for: names of presets and augmentations with strength and probability, checked."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune.augment.entries import Entry, entries
from transforms.records import Identity

FORM = "NAME, NAME=STRENGTH, NAME:PROBABILITY or NAME=STRENGTH:PROBABILITY"


class AugmentError(ValueError):
    """An augmentation that cannot be done; the message names it and what there is."""


@dataclass(frozen=True, slots=True)
class Part:
    """One augmentation with its numbers.

    Parameters
    ----------
    entry : Entry
        What is done.
    strength : float
        Largest size.
    chance : float
        Probability for a copy.
    """

    entry: Entry
    strength: float
    chance: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to each copy.

    Parameters
    ----------
    presets : tuple of Part
        A copy gets at most one of them: chances that sum to more than one are shares.
    single : tuple of Part
        Each is drawn by itself; in the order in which they happen, whatever the user's.
    """

    presets: tuple[Part, ...]
    single: tuple[Part, ...]

    def names(self) -> tuple[str, ...]:
        """What was asked for.

        Returns
        -------
        tuple of str
            Names of presets, then of single augmentations.
        """
        return tuple(part.entry.name for part in (*self.presets, *self.single))

    def apply(self, record: Any, rng: np.random.Generator) -> tuple[Any, tuple[str, ...], tuple[str, ...]]:
        """Augment one record. What is at the source and on the way comes before the telescope, what is left after it.

        Parameters
        ----------
        record : Identity
            Cutout, Spectrum or LightCurve.
        rng : Generator
            Source of all that is random.

        Returns
        -------
        record, drawn, done : Identity, tuple of str, tuple of str
            The very record where nothing is done; names of what was drawn for it, and of what changed it.
        """
        chosen = self._preset(rng)
        before = [p for p in self.single if p.entry.name in AT_THE_SOURCE]
        after = [p for p in self.single if p.entry.name not in AT_THE_SOURCE]
        drawn, done = [], []
        for part in (*before, *([chosen] if chosen else []), *after):
            if part is not chosen and rng.random() >= part.chance:
                continue
            drawn.append(part.entry.name)
            new = part.entry.act(record, part.strength, rng)
            if new is not record:
                done.append(part.entry.name)
            record = new
        return record, tuple(drawn), tuple(done)

    def _preset(self, rng: np.random.Generator) -> Part | None:
        draw, total = float(rng.random()), max(sum(p.chance for p in self.presets), 1.0)
        for part in self.presets:
            draw -= part.chance / total
            if draw < 0:
                return part
        return None


AT_THE_SOURCE = ("redshift", "velocity", "dust", "fainter")


def parse_plan(texts: Sequence[str], record: type) -> Plan:
    """Read what the user asked for.

    Parameters
    ----------
    texts : sequence of str
        Each of the form ``FORM``.
    record : type
        What the task works on.

    Returns
    -------
    Plan
        Checked.

    Raises
    ------
    AugmentError
        For a name that there is not, with all there are; for a number that makes no sense; for a name twice.
    """
    known, parts = entries(record), []
    for text in texts:
        match = re.fullmatch(r"([a-z_0-9]+)(?:=([^:=]+))?(?::([^:=]+))?", text.strip())
        if match is None:
            raise AugmentError(f"augment {text!r} is not of the form {FORM}")
        name, strength, chance = match.groups()
        if name not in known:
            raise AugmentError(
                f"augment {name!r} is not known for a {record.__name__}; there are the telescopes "
                f"{', '.join(n for n, e in known.items() if e.preset)} and "
                f"{', '.join(n for n, e in known.items() if not e.preset)}"
            )
        entry = known[name]
        if entry.preset and strength is not None:
            raise AugmentError(f"augment {text!r}: a telescope has no strength; {name}:PROBABILITY")
        size = _number(text, "strength", strength, entry.strength, math.inf)
        parts.append(Part(entry, size, _number(text, "probability", chance, 1.0, 1.0)))
    names = [part.entry.name for part in parts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise AugmentError(f"augment names {', '.join(twice)} more than once")
    order = {name: i for i, name in enumerate(known)}
    parts.sort(key=lambda part: order[part.entry.name])
    return Plan(tuple(p for p in parts if p.entry.preset), tuple(p for p in parts if not p.entry.preset))


def _number(text: str, what: str, given: str | None, default: float, high: float) -> float:
    if given is None:
        return default
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not 0 < value <= high or math.isinf(value):
        limit = f"up to {high:g}" if math.isfinite(high) else ""
        raise AugmentError(f"augment {text!r}: {what} {given!r} is not a number above 0 {limit}".rstrip())
    return value


def generator(record: Identity, seed: int, copy: int) -> np.random.Generator:
    """Randomness of one copy of one object: the same in whatever order, by however many workers it is made.

    Parameters
    ----------
    record : Identity
        Its file, place and name count.
    seed : int
        Of the training.
    copy : int
        Number of the copy.

    Returns
    -------
    Generator
        New.
    """
    name = "\n".join((record.source, record.hdu, str(record.row), record.object_id))
    words = np.frombuffer(hashlib.sha256(name.encode()).digest()[:16], np.uint32)
    return np.random.default_rng([seed, copy, *words.tolist()])
