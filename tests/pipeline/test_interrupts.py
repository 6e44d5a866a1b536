"""An interrupt that a finaliser swallows still stops the work."""

from __future__ import annotations

import signal
import sys
import threading

import pytest

from pipeline.interrupts import remembered


class Swallowing:
    """Python prints what a finaliser raises, and goes on."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_a_swallowed_interrupt_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    swallowed = []
    monkeypatch.setattr(sys, "unraisablehook", lambda found: swallowed.append(found.exc_type))
    before = signal.getsignal(signal.SIGINT)
    with remembered() as check:
        check()
        Swallowing()
        assert swallowed == [KeyboardInterrupt]
        with pytest.raises(KeyboardInterrupt):
            check()
    assert signal.getsignal(signal.SIGINT) is before
    with remembered() as check:
        check()


def test_an_interrupt_is_raised_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), remembered():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_and_ignored_interrupts_are_left_alone() -> None:
    found = []

    def work() -> None:
        with remembered() as check:
            check()
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with remembered() as check:
            signal.raise_signal(signal.SIGINT)
            check()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
