"""Which examples make a training batch, and how they become tensors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from finetune.network import stack, to_tensor
from finetune.task import Example, Prepared, Task

Targets = Mapping[str, np.ndarray]


class StepSampler(torch.utils.data.Sampler[int]):
    """Indices of a whole training, fixed by the seed: shuffled rounds, or weighted draws.

    Parameters
    ----------
    count : int
        Examples.
    total : int
        Indices to give.
    seed : int
        Of the order.
    weights : ndarray or None
        Chance of each example, in proportion.
    """

    def __init__(self, count: int, total: int, seed: int, weights: np.ndarray | None = None) -> None:
        rng = np.random.default_rng(seed)
        if weights is None:
            rounds = [rng.permutation(count) for _ in range(math.ceil(total / count))]
            self.indices = np.concatenate(rounds)[:total] if rounds else np.zeros(0, int)
        else:
            self.indices = rng.choice(count, total, p=weights / weights.sum())

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices.tolist())


class Collator:
    """Prepared records and targets to one augmented batch of tensors.

    Parameters
    ----------
    task : Task
        Gives ``augment``.
    names : sequence of str
        Arrays that the model takes.
    seed : int
        Batch n is augmented under the seed ``(seed, n)``, so that a training that goes on sees what it would have seen.
    """

    def __init__(self, task: Task, names: Sequence[str], seed: int) -> None:
        self.task, self.names, self.seed = task, tuple(names), seed
        self.count = 0

    def __call__(self, rows: Sequence[tuple[Prepared, Targets]]) -> dict[str, dict[str, torch.Tensor]]:
        """Stack, augment and convert one batch.

        Parameters
        ----------
        rows : sequence of (Prepared, Targets)
            The batch.

        Returns
        -------
        dict of dict of Tensor
            ``inputs`` and ``targets``.
        """
        prepared, targets = stack([p for p, _ in rows]), stack([t for _, t in rows])
        if self.task.augment is not None:
            prepared, targets = self.task.augment(prepared, targets, np.random.default_rng([self.seed, self.count]))
        self.count += 1
        return {
            "inputs": {name: to_tensor(np.asarray(prepared[name])) for name in self.names},
            "targets": {name: to_tensor(np.asarray(value)) for name, value in targets.items()},
        }


def balance_weights(examples: Sequence[Example], keys: Sequence[str]) -> np.ndarray | None:
    """Chances that make each combination of values equally frequent.

    Parameters
    ----------
    examples : sequence of Example
        Training objects.
    keys : sequence of str
        ``"origin"`` or names of labels.

    Returns
    -------
    ndarray of float64 or None
        One for each example; None without keys.
    """
    if not keys:
        return None
    values = [tuple(e.origin if key == "origin" else e.labels.get(key) for key in keys) for e in examples]
    counts = Counter(values)
    return np.array([1.0 / counts[value] for value in values])
