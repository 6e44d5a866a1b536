"""What the inference step asks of a model; it does not know where the model comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from transforms.columns import Column


class Predictor(Protocol):
    """A loaded model with its preparation, batches and columns."""

    task: str  #: Name of the task and of its table.
    record: type  #: Record class it takes.
    batch_size: int  #: Fixed batch; ``predict`` pads a short one.
    digest: str  #: First 16 hexadecimal digits of the bundle's SHA-256.
    columns: tuple[Column, ...]  #: What ``predict`` gives.

    def prepare(self, record: Any) -> Mapping[str, np.ndarray]:
        """Turn a record into arrays of fixed shape.

        Parameters
        ----------
        record : Identity
            Of class ``record``.

        Returns
        -------
        mapping of str to ndarray
            Input of ``predict``.
        """

    def predict(self, batch: Sequence[Mapping[str, np.ndarray]], size: int | None = None) -> list[dict[str, Any]]:
        """Answer for up to ``size`` inputs.

        Parameters
        ----------
        batch : sequence of mapping
            From ``prepare``.
        size : int, optional
            Shape that the batch is padded to; ``batch_size`` unless the device ran out of memory.

        Returns
        -------
        list of dict
            Columns plus ``"flags"``, one for each input, in order. An answer depends neither on its batch mates nor
            on its place.
        """

    def used(self) -> dict[str, int]:
        """What the model's device has done since the last call.

        Returns
        -------
        dict of str to int
            Counts by name, such as ``batches``, ``objects``, ``slots`` and ``busy_us``; those of several add up.
        """


#: Makes a Predictor; picklable, called once a process.
Loader = Callable[[], Predictor]
