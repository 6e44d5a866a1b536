"""The same object twice under two names: found by its data, though compressed, resampled or made noisier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from finetune.fingerprints import KINDS, Kind
from finetune.task import Example

NEIGHBOURS = 24  #: Of each record that are looked at: what bounds the cost, beside one product of all vectors.


@dataclass(frozen=True, slots=True)
class Pair:
    """Two records with nearly the same data.

    Parameters
    ----------
    one, two : int
        Their numbers, the smaller first.
    likeness : float
        Up to 1.
    """

    one: int
    two: int
    likeness: float


def near_duplicates(records: Sequence[Any]) -> list[Pair]:
    """Find pairs of near-duplicates.

    Parameters
    ----------
    records : sequence of Identity
        Of any classes; those of a class without a fingerprint, or with too little to tell, have none.

    Returns
    -------
    list of Pair
        In order. Exact copies are among them where there is enough to tell.
    """
    found: list[Pair] = []
    for kind in sorted({type(record) for record in records} & set(KINDS), key=lambda one: one.__name__):
        own = [i for i, record in enumerate(records) if type(record) is kind]
        vectors = [(i, vector) for i in own if (vector := KINDS[kind].vector(records[i])) is not None]
        if len(vectors) > 1:
            numbers, stacked = [i for i, _ in vectors], np.stack([vector for _, vector in vectors])
            found += search(KINDS[kind], [records[i] for i in numbers], stacked, numbers)
    return sorted(found, key=lambda pair: (pair.one, pair.two))


def mark_twins(examples: Sequence[Example]) -> tuple[list[Example], int]:
    """Say of each example which set of near-duplicates it belongs to, so that a split keeps the set together.

    Parameters
    ----------
    examples : sequence of Example
        Any.

    Returns
    -------
    examples : list of Example
        With ``twins`` set where there are any of another group, by the name of the set.
    merged : int
        How many groups fewer there are.
    """
    parent = {example.group: example.group for example in examples}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    marked: dict[int, str] = {}
    merged = 0
    for pair in near_duplicates([example.record for example in examples]):
        one, two = root(examples[pair.one].group), root(examples[pair.two].group)
        merged += one != two
        parent[max(one, two)] = min(one, two)
        if examples[pair.one].group != examples[pair.two].group:
            marked |= {pair.one: "", pair.two: ""}
    return [
        replace(example, twins=root(example.group)) if i in marked else example for i, example in enumerate(examples)
    ], merged


def search(kind: Kind, records: Sequence[Any], vectors: np.ndarray, numbers: Sequence[int]) -> Iterator[Pair]:
    """Find pairs among records of one kind.

    Parameters
    ----------
    kind : Kind
        How they are told apart.
    records : sequence of Identity
        At least two.
    vectors : ndarray, shape (n, width)
        Their prints.
    numbers : sequence of int
        What each is called in a pair; increasing.

    Yields
    ------
    Pair
        In order.
    """
    from sklearn.neighbors import NearestNeighbors

    count = min(NEIGHBOURS + 1, len(vectors))
    index = NearestNeighbors(n_neighbors=count, metric="cosine", algorithm="brute").fit(vectors)
    apart, near = index.kneighbors(vectors)
    alike: dict[tuple[int, int], float] = {}
    for i, row in enumerate(near.tolist()):
        for j, distance in zip(row, apart[i], strict=True):
            pair = min(i, j), max(i, j)
            if j != i and distance <= 1 - kind.near and pair not in alike:
                alike[pair] = kind.likeness(records[i], vectors[i], records[j], vectors[j])
    reach = _reach(kind, alike, len(vectors)) if kind.gap < 1 else []
    for (i, j), likeness in sorted(alike.items()):
        if likeness >= kind.least and (not reach or 1 - likeness <= min(reach[i], reach[j])):
            yield Pair(numbers[i], numbers[j], float(likeness))


def _reach(kind: Kind, alike: dict[tuple[int, int], float], count: int) -> list[float]:
    """For each record the distance within which its neighbours are copies: the last one before a gap; -1 for no gap."""
    apart: list[list[float]] = [[] for _ in range(count)]
    for pair, likeness in alike.items():
        for i in pair:
            apart[i].append(1 - likeness)
    out = []
    for own in apart:
        beyond = [1 - kind.near] if len(own) < NEIGHBOURS else []  # what was not looked at is farther than this
        steps = pairwise([*sorted(own), *beyond])
        out.append(max((one for one, far in steps if one <= min(1 - kind.least, kind.gap * far)), default=-1.0))
    return out
