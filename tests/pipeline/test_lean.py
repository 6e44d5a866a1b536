"""Beam is imported without what it only finds lying there, and nobody else loses it."""

from __future__ import annotations

import subprocess
import sys

LEAN = """
import sys
from pipeline.lean import UNUSED, import_beam
import_beam()
import apache_beam
loaded = [name for name in UNUSED if name in sys.modules]
import pandas, pymongo
print(loaded, pandas.Series([1, 2]).sum(), apache_beam.Pipeline.__name__)
"""
THERE = """
import sys, pandas
from pipeline.lean import import_beam
import_beam()
print(sys.modules["pandas"] is pandas, "pymongo" in sys.modules)
"""


def said(program: str) -> tuple[str, str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip(), done.stderr


def test_beam_comes_without_what_no_graph_of_ours_uses() -> None:
    out, errors = said(LEAN)
    assert out == "[] 3 Pipeline"
    assert "bson" not in errors


def test_what_is_there_already_stays() -> None:
    assert said(THERE)[0] == "True False"
