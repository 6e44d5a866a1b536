"""Where bytes lie: a path on this machine is opened as it is, anything else by the file system that its URL names."""

from __future__ import annotations

import io
import os
from typing import Any, cast

import fsspec
from fsspec.implementations.local import make_path_posix


class LocationError(ValueError):
    """No file system for a URL; the message names the URL and the package that is missing."""


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


def is_streamed(url: str) -> bool:
    """Say whether a file can only be read from its beginning to its end.

    Parameters
    ----------
    url : str
        Path or fsspec URL.

    Returns
    -------
    bool
        True for files of web servers, of which many cannot give a range of bytes and few say so.
    """
    return url.startswith(("http://", "https://"))


def location_fault(url: str) -> str:
    """Say whether this installation can open a URL, without going there.

    Parameters
    ----------
    url : str
        Path or fsspec URL.

    Returns
    -------
    str
        What is wrong; empty where nothing is.
    """
    if local_path(url) is not None:
        return ""
    for link in url.split("::"):
        protocol = (
            link.split("://", 1)[0] if "://" in link else link if link in fsspec.available_protocols() else "file"
        )
        try:
            fsspec.get_filesystem_class(protocol)
        except (ValueError, ImportError) as error:  # no such protocol, or its package is not installed
            return f"{url!r} cannot be opened: {error}"
    return ""


def file_system(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """File system of a URL.

    Parameters
    ----------
    url : str
        Path or fsspec URL.

    Returns
    -------
    tuple of AbstractFileSystem and str
        With the path inside of it; absolute for a local one.

    Raises
    ------
    LocationError
        For a protocol that is not known or not installed.
    """
    path = local_path(url)
    if path is not None:
        return fsspec.filesystem("file"), make_path_posix(path).rstrip("/") or "/"
    fault = location_fault(url)
    if fault:
        raise LocationError(fault)
    fs, inside = fsspec.core.url_to_fs(url)
    return fs, str(inside)


def open_url(url: str) -> io.BufferedIOBase:
    """Open a file for reading.

    Parameters
    ----------
    url : str
        Path or fsspec URL.

    Returns
    -------
    file object
        Binary, seekable where not ``is_streamed``; the caller closes it.
    """
    path = local_path(url)
    if path is not None:
        return open(path, "rb")
    if "::" in url:  # a member of an archive: it closes with its archive, which nobody would hold
        with fsspec.open(url, "rb") as member:
            return io.BytesIO(member.read())
    fs, inside = fsspec.core.url_to_fs(url)
    opened: Any = fs.open(inside, "rb", **({"block_size": 0} if is_streamed(url) else {}))
    return cast(io.BufferedIOBase, opened)
