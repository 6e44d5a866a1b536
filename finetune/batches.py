"""Batches on a device: two in flight where it works by itself, halved where they do not fit, counted.

Every part of a batch is padded to one shape by repeating its first input, so that an answer depends neither on its
batch mates nor on its place. A part that the device has no memory for is put back, the shape is halved, and the smaller
shape is kept from then on. An object that does not fit even alone is named; what becomes of it is the caller's to say.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from finetune.devices import Arrays, Device, Tensors

Part = tuple[int, int]


class Meter:
    """What a device has done since it was last asked; safe to call from any thread.

    Notes
    -----
    ``batches``, ``objects`` and ``slots`` (what the batches had room for), ``busy_us`` (microseconds of forwards),
    ``halved`` (times that a batch did not fit) and ``unfit`` (objects that did not fit alone).
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, **counts: int) -> None:
        """Add to the counts.

        Parameters
        ----------
        **counts : int
            By name.
        """
        with self._lock:
            self._counts.update(counts)

    def drain(self) -> dict[str, int]:
        """Give the counts, and begin again from zero.

        Returns
        -------
        dict of str to int
            Since the last call; without zeros.
        """
        with self._lock:
            counts, self._counts = self._counts, Counter()
        return {name: count for name, count in sorted(counts.items()) if count}


@dataclass(slots=True)
class Batches:
    """Runs a forward over objects, part by part.

    Parameters
    ----------
    device : Device
        Where.
    meter : Meter
        Is told of each part.
    overlap : bool
        Whether more than one part may be in flight, where the device can.
    limit : int
        The largest shape that may still fit; 0 as long as all have.
    """

    device: Device
    meter: Meter = field(default_factory=Meter)
    overlap: bool = True
    limit: int = 0

    def shape(self, size: int) -> int:
        """The shape that parts are padded to.

        Parameters
        ----------
        size : int
            What was asked for.

        Returns
        -------
        int
            The same, or the largest that may fit.
        """
        return min(size, self.limit) if self.limit else size

    def run(
        self, batch: Sequence[Any], size: int, load: Callable[[Sequence[Any]], Tensors],
        forward: Callable[[Tensors], Tensors],
    ) -> tuple[Arrays, list[int]]:  # fmt: skip
        """Answer for all objects that fit.

        Parameters
        ----------
        batch : sequence
            At least one object.
        size : int
            Shape of a part.
        load : callable
            ``load(objects) -> tensors`` in the host's memory.
        forward : callable
            ``forward(tensors) -> tensors`` on the device.

        Returns
        -------
        outputs : dict of str to ndarray
            Rows of those that fit, in order; empty where none does.
        fitted : list of int
            Their places in ``batch``.

        Raises
        ------
        Exception
            What the forward raised for another reason than memory.
        """
        work = _Work(deque([(0, len(batch))]))

        def begin(part: Part, shape: int) -> Any:
            objects = batch[slice(*part)]
            padded = [*objects, *[objects[0]] * (shape - len(objects))]
            return self.device.run(forward, self.device.put(load(padded)))

        before, unfit = (self.limit, self.overlap), 0
        while work.todo or work.flying:
            refused = self._advance(work, size, begin)
            if refused is not None:
                # not in the except clause: the traceback would hold the tensors of the forward that failed
                unfit += self._shrink(work, *refused)
        if unfit and work.done:
            self.limit, self.overlap = before  # those objects are to blame, not the shape
        parts = [rows for _, rows in sorted(work.done.items(), key=lambda pair: pair[0])]
        fitted = [start + row for start in sorted(work.done) for row in range(_length(work.done[start]))]
        return _joined(parts), fitted

    def _advance(self, work: _Work, size: int, begin: Callable[[Part, int], Any]) -> tuple[Part, int] | None:
        """Begin one part or fetch the oldest; give the part and its shape where the device had no memory for it."""
        depth = self.device.depth if self.overlap else 1
        starts = bool(work.todo) and len(work.flying) < depth
        if starts:
            shape = self.shape(size)
            part = _take(work.todo, shape)
        else:
            part, shape, running = work.flying.popleft()
        try:
            if starts:
                work.flying.append((part, shape, begin(part, shape)))
            else:
                work.done[part[0]] = self._fetched(part, shape, running)
        except Exception as error:
            if not self.device.out_of_memory(error):
                raise
            return part, shape
        return None

    def _fetched(self, part: Part, shape: int, running: Any) -> Arrays:
        arrays, seconds = self.device.fetch(running)
        count = part[1] - part[0]
        self.meter.add(batches=1, objects=count, slots=shape, busy_us=round(1e6 * seconds))
        return {name: value[:count] for name, value in arrays.items()}

    def _shrink(self, work: _Work, part: Part, shape: int) -> int:
        """Halve the shape, or else let parts go one after the other, or else give the object up."""
        alone = not work.flying
        work.todo.extendleft(other for other, _, _ in reversed(work.flying))
        work.flying.clear()  # what they hold has to go before anything smaller is tried
        self.device.release()
        self.meter.add(halved=1)
        if shape == 1 and alone:
            self.meter.add(unfit=1)
            return 1
        work.todo.append(part)
        if shape > 1:
            self.limit = shape // 2
        else:
            self.overlap = False
        return 0


@dataclass(slots=True)
class _Work:
    """Parts that wait, that are on the device, and that are done, by their first object."""

    todo: deque[Part]
    flying: deque[tuple[Part, int, Any]] = field(default_factory=deque)
    done: dict[int, Arrays] = field(default_factory=dict)


def _take(todo: deque[Part], shape: int) -> Part:
    start, stop = todo.popleft()
    if stop - start > shape:
        todo.appendleft((start + shape, stop))
    return start, min(stop, start + shape)


def _length(rows: Mapping[str, np.ndarray]) -> int:
    return len(next(iter(rows.values())))


def _joined(parts: Sequence[Arrays]) -> Arrays:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())}
