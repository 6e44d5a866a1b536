"""Fixtures of the pipeline's tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests import toy_night


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut is not tested here, and thousands of fsync take minutes."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def toys() -> Iterator[None]:
    """The toy format and table in the place of the real ones."""
    with pytest.MonkeyPatch.context() as patch:
        toy_night.install(patch.setattr)
        yield
    toy_night.forget()
