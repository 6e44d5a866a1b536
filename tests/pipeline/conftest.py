"""Fixtures of the pipeline's tests."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut is not tested here, and thousands of fsync take minutes."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
