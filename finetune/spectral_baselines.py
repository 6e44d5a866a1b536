"""The classical answers beside the stellar transformer: kernel ridge and template match, in one baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from finetune.spectral_match import TemplateMatch
from finetune.spectral_ridge import N_FOLD, KernelRidge
from finetune.stellar_labels import as_columns, columns, encode
from finetune.task import Example, Prepared, Row
from transforms.columns import FLOAT32, Column

COLUMNS = (
    *columns("baseline_", "by kernel ridge on principal components", errors=False),
    *columns("baseline_match_", "by the eight best templates", errors=False),
    Column("baseline_match_chi2", FLOAT32, "", "stat.fit.chi2", "Reduced chi square of the best template"),
)
MIN_GOOD = 0.9  #: Share of the grid that a training spectrum must cover: neither method can learn from gaps.


class StellarBaseline:
    """Kernel ridge and template match of the same training stars."""

    def __init__(self) -> None:
        self.ridge: KernelRidge | None = None
        self.match: TemplateMatch | None = None

    def fit(self, examples: Sequence[Example], prepared: Sequence[Prepared], *, seed: int) -> None:
        """Learn from clean stars that have all three labels.

        Parameters
        ----------
        examples : sequence of Example
            Labelled stars.
        prepared : sequence of Prepared
            Their spectra.
        seed : int
            Of the inner folds.

        Raises
        ------
        ValueError
            Where fewer than 20 stars are of use.
        """
        labels = np.stack([encode(example.labels)["labels"] for example in examples])
        ivar = np.stack([item["ivar"] for item in prepared])
        used = np.flatnonzero(np.isfinite(labels).all(1) & ((ivar > 0).mean(1) >= MIN_GOOD)).tolist()
        if len(used) < 20:
            raise ValueError(f"{len(used)} of {len(examples)} spectra have three labels and {MIN_GOOD:.0%} coverage")
        flux = fill_gaps(np.stack([prepared[i]["flux"] for i in used]), ivar[used])
        groups = [examples[i].group for i in used]
        keys = np.array([int(prepared[i]["star"]) for i in used])
        folds = inner_folds(groups, seed)
        self.ridge = KernelRidge.fit(flux, np.maximum(ivar[used], 1.0), labels[used], groups, folds, keys=keys)
        self.match = TemplateMatch.fit(flux, labels[used])

    def predict(self, prepared: Sequence[Prepared]) -> list[Row]:
        """Answer for a batch.

        Parameters
        ----------
        prepared : sequence of Prepared
            Inputs.

        Returns
        -------
        list of dict
            ``COLUMNS``; nulls where a spectrum has no good pixel.

        Raises
        ------
        ValueError
            Before ``fit`` or ``restore``.
        """
        if self.ridge is None or self.match is None:
            raise ValueError("the stellar baseline has not been fitted")
        flux, ivar = (np.stack([item[name] for item in prepared]) for name in ("flux", "ivar"))
        base = self.ridge.predict(flux, ivar)["base"]
        rows = []
        for i in range(len(prepared)):
            labels, chi2, _ = self.match.predict(flux[i], ivar[i])
            known = bool((ivar[i] > 0).any())
            row = as_columns("baseline_", base[i] if known else np.full(3, np.nan))
            row |= as_columns("baseline_match_", labels)
            rows.append({**row, "baseline_match_chi2": chi2 if np.isfinite(chi2) else None})
        return rows

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What has been learnt.

        Returns
        -------
        arrays, meta : dict of str to ndarray, dict
            The kernel ridge in half precision where that is enough, the templates' components; no meta.

        Raises
        ------
        ValueError
            Before ``fit``.
        """
        if self.ridge is None or self.match is None:
            raise ValueError("the stellar baseline has not been fitted")
        half = {"basis", "scores"}
        arrays = {f"ridge_{k}": v.astype(np.float16) if k in half else v for k, v in self.ridge.arrays.items()}
        return {**arrays, **self.match.arrays}, {}

    def restore(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Take up a saved state.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            From ``state``.
        meta : mapping
            Not used.
        """
        self.ridge = KernelRidge({name: arrays[f"ridge_{name}"] for name in KernelRidge.NAMES})
        self.match = TemplateMatch(arrays)


def fill_gaps(flux: np.ndarray, ivar: np.ndarray) -> np.ndarray:
    """Replace the few bad pixels of training spectra by a line between their neighbours.

    Parameters
    ----------
    flux, ivar : ndarray, shape (n, N_PIXEL)
        Spectra; 0 = bad.

    Returns
    -------
    ndarray of float64, shape (n, N_PIXEL)
        Without gaps.
    """
    x = np.arange(flux.shape[1])
    out = flux.astype(np.float64)
    for row, good in zip(out, ivar > 0, strict=True):
        if not good.all():
            row[~good] = np.interp(x[~good], x[good], row[good])
    return out


def inner_folds(groups: Sequence[str], seed: int) -> np.ndarray:
    """Split stars into inner folds, groups kept whole.

    Parameters
    ----------
    groups : sequence of str
        Group of each star.
    seed : int
        Of the permutation.

    Returns
    -------
    ndarray of int64, shape (n,)
        0 to ``N_FOLD - 1``.
    """
    names = sorted(set(groups))
    order = np.random.default_rng(seed).permutation(len(names))
    fold = {names[j]: i % N_FOLD for i, j in enumerate(order)}
    return np.array([fold[group] for group in groups], np.int64)
