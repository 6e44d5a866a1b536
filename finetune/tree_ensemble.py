"""Boosted trees that LightGBM grew, evaluated from their text by numpy alone.

LightGBM trains and explains. To answer it is not needed: its import (with scikit-learn, which it pulls in) takes
seconds of every start of the survey. All splits of all trees are tested at once; a failed test strikes out the leaves
to its left, and the first leaf left over is where the object ends (QuickScorer: Lucchese et al. 2015, SIGIR,
doi:10.1145/2766462.2767733).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

MOST_LEAVES = 64  #: Bits of the largest integer.
_DEFAULT_LEFT = 2  # bit of decision_type; the two above it say what a missing value is: none, zero or NaN
_MISSING_NONE, _MISSING_ZERO = 0, 1


@dataclass(frozen=True, slots=True, eq=False)
class TreeEnsemble:
    """A classifier of many small trees.

    Parameters
    ----------
    text : str
        As LightGBM's ``model_to_string`` gave it.
    n_class, n_number : int
        Classes and inputs.
    feature, threshold : ndarray, shape (n_split,)
        Input and value that each split tests; an object goes left where the input is not above the value.
    default_left : ndarray of bool, shape (n_split,)
        Where NaN goes.
    leaves_right : ndarray of unsigned int, shape (n_split,)
        Bits of the tree's leaves that are left over where the object goes right.
    first : ndarray of int, shape (n_tree,)
        First split of each tree.
    values : ndarray, shape (n_tree, n_leaf)
        What each leaf adds, leaves from left to right.
    """

    text: str
    n_class: int
    n_number: int
    feature: np.ndarray
    threshold: np.ndarray
    default_left: np.ndarray
    leaves_right: np.ndarray
    first: np.ndarray
    values: np.ndarray

    @classmethod
    def from_text(cls, text: str) -> TreeEnsemble:
        """Read the trees.

        Parameters
        ----------
        text : str
            Of a multi-class booster.

        Returns
        -------
        TreeEnsemble
            Ready.

        Raises
        ------
        ValueError
            For trees that are not of the kind described: categories, linear leaves, averaged forests, more than 64
            leaves, or one score for each object.
        """
        head, *blocks = re.split(r"^Tree=\d+\n", text.split("\nend of trees")[0], flags=re.MULTILINE)
        facts = _facts(head)
        n_class = int(facts.get("num_class", 1))
        if not facts.get("objective", "").startswith("multiclass ") or "average_output" in head or n_class < 2:
            raise ValueError(f"trees with objective {facts.get('objective')!r} are not of a boosted classifier")
        trees = [_tree(_facts(block), index) for index, block in enumerate(blocks)]
        if not trees or len(trees) % n_class:
            raise ValueError(f"{len(trees)} trees do not divide among {n_class} classes")
        most = max(tree["value"].size for tree in trees)
        values = np.zeros((len(trees), most))
        for row, tree in zip(values, trees, strict=True):
            row[: tree["value"].size] = tree["value"]
        kind = np.uint16 if most <= 16 else np.uint32 if most <= 32 else np.uint64
        columns = {
            name: np.concatenate([tree[name] for tree in trees]) for name in ("feature", "threshold", "default_left")
        }
        counts = [tree["feature"].size for tree in trees]
        return cls(
            text=text, n_class=n_class, n_number=int(facts["max_feature_idx"]) + 1, **columns,
            leaves_right=np.concatenate([tree["leaves_right"] for tree in trees]).astype(kind),
            first=np.concatenate([[0], np.cumsum(counts)[:-1]]), values=values,
        )  # fmt: skip

    def probabilities(self, numbers: np.ndarray) -> np.ndarray:
        """Class probabilities.

        Parameters
        ----------
        numbers : ndarray of float64, shape (n, n_number)
            NaN where missing.

        Returns
        -------
        ndarray of float64, shape (n, n_class)
            Rows sum to one. A row does not depend on the others.
        """
        if numbers.ndim != 2 or numbers.shape[1] != self.n_number:
            raise ValueError(f"numbers of shape {numbers.shape} are not (n, {self.n_number})")
        leaf = np.empty((len(numbers), self.first.size), np.int64)
        for row, out in zip(numbers, leaf, strict=True):  # one by one: what a row needs stays in the processor's cache
            left = (row[self.feature] <= self.threshold) | (np.isnan(row)[self.feature] & self.default_left)
            out[:] = _lowest_bit(np.bitwise_and.reduceat(np.where(left, self._all, self.leaves_right), self.first))
        added = self.values[np.arange(self.first.size), leaf].reshape(len(numbers), -1, self.n_class)
        score = np.cumsum(added, axis=1)[:, -1]  # in order, as LightGBM adds them; a plain sum may go another way round
        score = np.exp(score - score.max(axis=1, keepdims=True))
        probability: np.ndarray = score / score.sum(axis=1, keepdims=True)
        return probability

    @property
    def _all(self) -> np.unsignedinteger:
        kind = self.leaves_right.dtype.type
        every: np.unsignedinteger = kind(np.iinfo(kind).max)
        return every


def _lowest_bit(bits: np.ndarray) -> np.ndarray:
    """Place of the lowest bit that is set."""
    lowest = bits & (~bits + bits.dtype.type(1))
    return np.log2(lowest.astype(np.float64)).astype(np.int64)  # exact: powers of two


def _facts(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.splitlines() if "=" in line)


def _tree(facts: Mapping[str, str], index: int) -> dict[str, np.ndarray]:
    """One tree; a tree without a split is a split that changes nothing."""

    def numbers(name: str, kind: type) -> np.ndarray:
        return np.array(facts.get(name, "").split(), dtype=kind)

    n_leaf = int(facts["num_leaves"])
    if n_leaf > MOST_LEAVES or facts.get("num_cat", "0") != "0" or facts.get("is_linear", "0") != "0":
        raise ValueError(f"tree {index} has {n_leaf} leaves, categories or linear leaves: it cannot be evaluated here")
    value = numbers("leaf_value", np.float64)
    if n_leaf == 1:
        return {
            "feature": np.zeros(1, np.int64), "threshold": np.array([np.inf]), "default_left": np.ones(1, bool),
            "leaves_right": np.full(1, 1, np.uint64), "value": value,
        }  # fmt: skip
    decision, threshold = numbers("decision_type", np.int64), numbers("threshold", np.float64)
    missing = (decision >> 2) & 3
    if np.any(missing == _MISSING_ZERO):
        raise ValueError(f"tree {index} takes zeros for missing values: it cannot be evaluated here")
    # a split that saw no missing value in training takes NaN for zero
    default_left = np.where(missing == _MISSING_NONE, threshold >= 0, (decision & _DEFAULT_LEFT) > 0)
    order, leaves_right = _in_order(numbers("left_child", np.int64), numbers("right_child", np.int64))
    return {
        "feature": numbers("split_feature", np.int64), "threshold": threshold, "default_left": default_left,
        "leaves_right": leaves_right, "value": value[order],
    }  # fmt: skip


def _in_order(left: np.ndarray, right: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Leaves from left to right, and for each split the bits of all leaves but those below its left branch."""
    order: list[int] = []
    keep = np.zeros(left.size, np.uint64)

    def walk(node: int) -> None:
        if node < 0:  # LightGBM's name of leaf ~node
            order.append(~node)
            return
        start = len(order)
        walk(left[node])
        struck = (1 << len(order)) - (1 << start)
        keep[node] = np.uint64((2**64 - 1) ^ struck)
        walk(right[node])

    walk(0)
    return order, keep
