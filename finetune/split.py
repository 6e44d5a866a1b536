"""Splits by group: a star, cluster, field or donor never lies on both sides."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from finetune.dataset import content_digest, key
from finetune.jsonfile import write_json
from finetune.task import Example

PARTS = ("train", "validation", "test")


class LeakError(ValueError):
    """The same object, group or data lies in two parts of a split."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Which group lies in which part.

    Parameters
    ----------
    seed : int
        Of the order.
    by : str
        ``"group"``, or ``"sky:k"`` for HEALPix cells of order k.
    shares : mapping of str to float
        Fraction of the groups in each part.
    parts : mapping of str to str
        Group to part, for every group.
    """

    seed: int
    by: str
    shares: Mapping[str, float]
    parts: Mapping[str, str]

    def apply(self, examples: Sequence[Example]) -> dict[str, list[Example]]:
        """Deal examples into the parts.

        Parameters
        ----------
        examples : sequence of Example
            A group that the split does not know goes to the first part: it has never been judged on.

        Returns
        -------
        dict of str to list of Example
            By part, every part there.

        Raises
        ------
        LeakError
            Where an object or its data lies in two parts.
        """
        dealt: dict[str, list[Example]] = {name: [] for name in self.shares}
        first = next(iter(self.shares))
        for example, group in zip(examples, merged_groups(examples, self.by), strict=True):
            dealt[self.parts.get(example.group, self.parts.get(group, first))].append(example)
        check_leaks(dealt)
        return dealt

    def save(self, path: str | Path) -> None:
        """Write it as JSON.

        Parameters
        ----------
        path : str or Path
            File.
        """
        write_json(Path(path), self.content())

    def content(self) -> dict[str, Any]:
        """Its JSON form; the parts stay in order.

        Returns
        -------
        dict
            What ``load`` reads.
        """
        return {"seed": self.seed, "by": self.by, "shares": list(self.shares.items()), "parts": dict(self.parts)}

    @classmethod
    def load(cls, path: str | Path) -> Split:
        """Read one that was saved.

        Parameters
        ----------
        path : str or Path
            File.

        Returns
        -------
        Split
            The same.
        """
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return cls(**{**content, "shares": dict(content["shares"])})


def make_split(
    examples: Sequence[Example],
    *,
    shares: Mapping[str, float] | None = None,
    seed: int = 0,
    by: str = "group",
    stratify: str = "",
) -> Split:
    """Deal groups into parts.

    Parameters
    ----------
    examples : sequence of Example
        All of them, in any order.
    shares : mapping of str to float, optional
        Fraction of each part; 0.7 train, 0.15 validation, 0.15 test where None.
    seed : int
        Of the order, which is a hash of seed and group, so that it does not depend on the order of the files.
    by : str
        ``"group"`` or ``"sky:k"``.
    stratify : str
        Label whose values are dealt in equal fractions; empty for none.

    Returns
    -------
    Split
        The shares are kept to one group, over all strata together.
    """
    shares = dict(shares or {"train": 0.7, "validation": 0.15, "test": 0.15})
    strata: dict[str, Counter[str]] = {}
    merged = merged_groups(examples, by)
    for example, group in zip(examples, merged, strict=True):
        strata.setdefault(group, Counter())[str(example.labels.get(stratify)) if stratify else ""] += 1
    by_stratum: dict[str, list[str]] = {}
    for group, counts in strata.items():
        most = min(counts, key=lambda value: (-counts[value], value))
        by_stratum.setdefault(most, []).append(group)
    total = sum(shares.values())
    owed = dict.fromkeys(shares, 0.0)
    parts: dict[str, str] = {}
    for stratum in sorted(by_stratum):
        for group in sorted(by_stratum[stratum], key=lambda name: _hash(seed, name)):
            for name, share in shares.items():
                owed[name] += share / total
            part = max(owed, key=lambda name: (owed[name], name))
            owed[part] -= 1
            parts[group] = part
    parts |= {example.group: parts[group] for example, group in zip(examples, merged, strict=True)}
    return Split(seed=seed, by=by, shares=shares, parts=parts)


def inherit(plan: Split, earlier: Split, examples: Sequence[Example]) -> Split:
    """Leave what an earlier model was trained or tuned on where it lay, so that it never judges a later one.

    Parameters
    ----------
    plan : Split
        Of these examples.
    earlier : Split
        That of the model which the training starts from, whose parts have the same names.
    examples : sequence of Example
        All of them.

    Returns
    -------
    Split
        Groups that the earlier split knows, or that share an object or data with one that it knows, lie in the part
        that comes first of those; the others where ``plan`` has them. The earlier groups stay on the record.
    """
    order = list(plan.shares)
    merged = merged_groups(examples, plan.by)
    known: dict[str, int] = {}
    for example, group in zip(examples, merged, strict=True):
        part = earlier.parts.get(example.group, earlier.parts.get(group))
        if part is not None:
            known[group] = min(known.get(group, len(order)), order.index(part))
    own = {e.group: order[known[g]] if g in known else plan.parts[g] for e, g in zip(examples, merged, strict=True)}
    own |= {group: order[index] for group, index in known.items()}
    return replace(plan, parts={**earlier.parts, **plan.parts, **own})


def make_folds(
    examples: Sequence[Example], count: int, *, seed: int = 0, by: str = "group", stratify: str = ""
) -> list[tuple[list[Example], list[Example]]]:
    """Split for cross-validation.

    Parameters
    ----------
    examples : sequence of Example
        All of them.
    count : int
        Folds.
    seed : int
        Of the order.
    by, stratify : str
        As in ``make_split``.

    Returns
    -------
    list of (list of Example, list of Example)
        For each fold, the rest and the fold; each example is in one fold.
    """
    shares = {f"fold_{i}": 1.0 for i in range(count)}
    dealt = make_split(examples, shares=shares, seed=seed, by=by, stratify=stratify).apply(examples)
    return [([e for other in dealt if other != name for e in dealt[other]], dealt[name]) for name in dealt]


def merged_groups(examples: Sequence[Example], by: str = "group") -> list[str]:
    """Groups, joined where they share an object, or the same or nearly the same data under two names.

    Parameters
    ----------
    examples : sequence of Example
        All of them.
    by : str
        ``"group"``, or ``"sky:k"`` to join all that lies in one HEALPix cell of order k too.

    Returns
    -------
    list of str
        For each example the name of its joined group: the first of the sorted names of its groups.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    cells = _cells(examples, by)
    for example, cell in zip(examples, cells, strict=True):
        own = root(f"group {example.group}")
        for other in _marks(example, cell):
            parent[root(other)] = own
            own = root(own)
    roots = [root(f"group {example.group}") for example in examples]
    names: dict[str, str] = {}
    for example, top in zip(examples, roots, strict=True):
        names[top] = min(names.get(top, example.group), example.group)
    return [names[top] for top in roots]


def check_leaks(parts: Mapping[str, Sequence[Example]]) -> None:
    """Make sure that nothing lies in two parts.

    Parameters
    ----------
    parts : mapping of str to sequence of Example
        The sides of a split.

    Raises
    ------
    LeakError
        Naming the parts and the first of what they share: group, object, or data that is identical or nearly so.
    """
    found = {
        name: {mark: key(e) for e in examples for mark in (f"group {e.group}", *_marks(e, ""))}
        for name, examples in parts.items()
    }
    for one, two in combinations(found, 2):
        shared = sorted(set(found[one]) & set(found[two]))
        if shared:
            mark = shared[0]
            raise LeakError(
                f"{one} and {two} share {len(shared)} groups, objects or (nearly) the same data; the first is "
                f"{mark[:60]}: "
                f"{found[one][mark]} and {found[two][mark]}"
            )


def _marks(example: Example, cell: str) -> list[str]:
    marks = [f"data {content_digest(example.record)}"]
    if example.record.object_id:
        marks.append(f"object {example.record.object_id}")
    if example.twins:
        marks.append(f"near-duplicates {example.twins}")
    return [*marks, cell] if cell else marks


def _cells(examples: Sequence[Example], by: str) -> list[str]:
    if by == "group":
        return [""] * len(examples)
    kind, _, order = by.partition(":")
    if kind != "sky" or not order.isdigit() or int(order) > 29:
        raise ValueError(f"split by {by!r} is neither 'group' nor 'sky:k' with an order k from 0 to 29")
    from astropy import units as u
    from astropy_healpix import HEALPix

    grid = HEALPix(nside=2 ** int(order), order="nested")

    def cell(record: Any) -> str:
        if record.ra is None or record.dec is None:
            return ""
        return f"cell {int(grid.lonlat_to_healpix(record.ra * u.deg, record.dec * u.deg))}"

    return [cell(example.record) for example in examples]


def _hash(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}|{name}".encode()).hexdigest()
