"""Shared fixtures: the folder of real survey data, where it is present."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("NIGHTCAT_DATA", ROOT.parent / "shared" / "data"))


def pytest_configure(config: pytest.Config) -> None:
    """A shell starts a job in the background with Ctrl-C ignored, and every process below inherits that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real survey data; the test is skipped, with the reason, where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"real survey data is absent: {DATA} (set NIGHTCAT_DATA)")
    return DATA
