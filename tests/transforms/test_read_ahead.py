from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from transforms.read_ahead import ReadAhead


def test_the_reader_runs_ahead_but_not_without_bound() -> None:
    made = []

    def work(n: int) -> Iterator[int]:
        for i in range(100):
            made.append(i)
            yield i

    ahead = ReadAhead(work, items=1, results=5)
    assert list(ahead.offer(0)) == []
    deadline = time.monotonic() + 5
    while len(made) < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert 5 <= len(made) <= 7
    assert list(ahead.finish()) == list(range(100))


def test_a_fault_in_the_reader_thread_is_raised_in_the_main_one() -> None:
    def work(n: int) -> Iterator[int]:
        yield 1
        raise SystemError("ours")

    ahead = ReadAhead(work, 1, 5)
    list(ahead.offer(0))
    with pytest.raises(SystemError, match="ours"):
        list(ahead.finish())
    assert not any(t.name == "nightcat-reader" and t.is_alive() for t in threading.enumerate() if t is ahead._thread)
