"""Shared fixtures: the folder of real survey data, where it is present."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("NIGHTCAT_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real survey data; the test is skipped, with the reason, where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"real survey data is absent: {DATA} (set NIGHTCAT_DATA)")
    return DATA
