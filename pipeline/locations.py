"""URLs of inputs: the full URL of what was found below them."""

from __future__ import annotations

import re

import fsspec
from fsspec.implementations.local import make_path_posix

from transforms.locations import local_path

CACHES = ("simplecache", "filecache", "blockcache", "cached")  #: Links of a chain that only keep copies of the next.


def member_url(spec: str, fs: fsspec.AbstractFileSystem, path: str, name: str) -> str:
    """Full URL of a file that was found below an input: with its host, its archive and the rest of the chain.

    Parameters
    ----------
    spec : str
        The input, as the user named it.
    fs, path : AbstractFileSystem, str
        What ``file_system`` made of it.
    name : str
        As the file system lists it.

    Returns
    -------
    str
        What opens it anywhere: local parts are absolute.
    """
    if local_path(spec) is not None:
        return name
    first, *rest = spec.split("::")
    if "://" not in first:
        first += "://"
    tail = "".join(f"::{_absolute(link)}" for link in rest)
    base = (
        first
        if not path.strip("/")
        else next((text[: -len(path)] for text in (first, first.rstrip("/")) if text.endswith(path)), "")
    )
    if "://" not in base:  # the path is no part of the URL's text, as after an account, or all of it
        fixed, below = (_without_pattern(text) for text in (first, path))
        if "://" not in name and fixed and below and f"{name}/".startswith(f"{below}/"):
            return f"{fixed}{name[len(below) :]}{tail}"
        return f"{fs.unstrip_protocol(name)}{tail}"
    if not base.endswith("://"):  # after a host
        base = f"{base.rstrip('/')}/" if not name.startswith("/") else base.rstrip("/")
    return f"{base}{name}{tail}"


def _without_pattern(text: str) -> str:
    """What stands before the first folder or file name that is a pattern."""
    magic = re.search(r"[*?\[]", text)
    return (text[: text.rfind("/", 0, magic.start())] if magic else text).rstrip("/")


def _absolute(link: str) -> str:
    path = None if link in fsspec.available_protocols() else local_path(link)
    return link if path is None else make_path_posix(path)
