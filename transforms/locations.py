"""Where bytes lie: a path on this machine is opened as it is, anything else by fsspec."""

from __future__ import annotations

import io
import os
from typing import Any, cast

import fsspec


def local_path(url: str) -> str | None:
    """Say which path on this machine a URL means.

    Parameters
    ----------
    url : str
        Path or fsspec URL.

    Returns
    -------
    str or None
        None for a URL of another place or a chain of URLs. An absolute path is a path whatever it contains: fsspec
        would take ``j::k.csv`` for a chain and ``a://b`` for a protocol.
    """
    path = url.removeprefix("file://")
    if os.path.isabs(path):
        return path
    if "://" in path or ("::" in path and path.split("::", 1)[0] in fsspec.available_protocols()):
        return None
    return os.path.expanduser(path)


def open_url(url: str) -> io.BufferedIOBase:
    """Open a file for reading.

    Parameters
    ----------
    url : str
        Path or fsspec URL.

    Returns
    -------
    file object
        Binary, seekable; the caller closes it.
    """
    path = local_path(url)
    if path is not None:
        return open(path, "rb")
    opened: Any = fsspec.open(url, "rb").open()
    return cast(io.BufferedIOBase, opened)
