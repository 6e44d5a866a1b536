"""A thread that reads ahead of whoever takes its results, through two bounded queues."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any


class ReadAhead:
    """A reader thread between two bounded queues. Its three waits are a method each, for whoever measures them.

    Parameters
    ----------
    work : callable
        ``work(item) -> iterator``: run in the thread, one item after the other.
    items, results : int
        Lengths of the queues.
    """

    _END = object()

    def __init__(self, work: Callable[[Any], Iterator[Any]], items: int, results: int) -> None:
        self._work = work
        self._todo: queue.Queue[Any] = queue.Queue(items)
        self._done: queue.Queue[Any] = queue.Queue(results)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="nightcat-reader", daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        while True:
            item = self._next()
            if item is self._END:
                self._put((self._END, None))
                return
            try:
                for result in self._work(item):
                    if not self._put((result, None)):
                        return
            except BaseException as error:  # noqa: BLE001 - a fault of ours: it is raised again in the main thread
                self._put((None, error))
                return

    def _next(self) -> Any:
        return self._todo.get()

    def _put(self, pair: tuple[Any, BaseException | None]) -> bool:
        while not self._stopped.is_set():
            try:
                self._done.put(pair, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def waiting(self) -> int:
        """How many results wait to be taken.

        Returns
        -------
        int
            About: the thread goes on meanwhile.
        """
        return self._done.qsize()

    def offer(self, item: Any) -> Iterator[Any]:
        """Hand in one item; yield whatever has to be taken out before there is room for it.

        Parameters
        ----------
        item : object
            Input of ``work``.

        Yields
        ------
        object
            Results, in order.
        """
        while True:
            try:
                self._todo.put_nowait(item)
                return
            except queue.Full:
                yield self._take()

    @property
    def ready(self) -> int:
        """How many results wait to be taken."""
        return self._done.qsize()

    def finish(self) -> Iterator[Any]:
        """End the thread; yield all that is left.

        Yields
        ------
        object
            Results, in order.
        """
        yield from self.offer(self._END)
        while (result := self._take()) is not self._END:
            yield result
        self._thread.join()

    def stop(self) -> None:
        """Give up: the thread ends at its next result."""
        self._stopped.set()

    def _take(self) -> Any:
        result, error = self._done.get()
        if error is not None:
            raise error
        return result
