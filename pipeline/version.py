"""The version that rows and manifests carry."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version as installed


@cache
def version() -> str:
    """Version of the installed package.

    Returns
    -------
    str
        As in ``setup.py``.
    """
    return installed("nightcat")
