"""Input files that are named on the command line of ``python -m finetune``, with their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import fsspec

from transforms.records import FileRef


class InputError(ValueError):
    """An input does not exist."""


def list_files(inputs: Sequence[str | FileRef]) -> list[FileRef]:
    """List files, folders and globs, each file once.

    Parameters
    ----------
    inputs : sequence of str or FileRef
        Local paths or fsspec URLs; a ``FileRef`` with a digest is taken as it is.

    Returns
    -------
    list of FileRef
        Sorted by source, with digests. Hidden files of a folder are left out.

    Raises
    ------
    InputError
        Naming the input that does not exist.
    """
    found: dict[str, FileRef] = {}
    for given in inputs:
        for file in [given] if isinstance(given, FileRef) else _walk(given):
            found.setdefault(file.url, file)
    return sorted(found.values(), key=lambda file: (file.source, file.url))


def _walk(spec: str) -> list[FileRef]:
    fs, path = fsspec.core.url_to_fs(spec)
    prefix = f"{spec.split('://', 1)[0]}://" if "://" in spec and not spec.startswith("file://") else ""
    if fs.isdir(path):
        root, names = path, sorted(fs.find(path))
    else:
        names = [path] if fs.exists(path) else sorted(name for name in fs.glob(path) if fs.isfile(name))
        root = path.rsplit("/", 1)[0]
    if not names:
        raise InputError(f"input does not exist: {spec!r}")
    files = []
    for name in names:
        source = name.removeprefix(root).lstrip("/") if name.startswith(root) else name.rsplit("/", 1)[-1]
        if any(part.startswith(".") for part in source.split("/")):
            continue
        with fs.open(name, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        files.append(FileRef(url=prefix + name, source=source, size=int(fs.size(name) or 0), digest=digest))
    return files
