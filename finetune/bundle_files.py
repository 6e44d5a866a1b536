"""The files of a model on disk: their digests, and a folder put in place when it is whole."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INFO = "bundle.json"


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a hidden folder beside ``path``; it takes the place of an earlier one when the block ends without an error.

    Parameters
    ----------
    path : Path
        The folder to be.

    Yields
    ------
    Path
        The folder to fill.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield folder
        _share(folder)
        _swap(folder, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a bundle but ``bundle.json``; hidden ones do not count.

    Parameters
    ----------
    folder : Path
        Of the bundle.

    Returns
    -------
    dict of str to str
        Hexadecimal, by name relative to the folder.
    """
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return {n: sha256(folder / n) for n in names if n != INFO and not any(s.startswith(".") for s in n.split("/"))}


def sha256(path: Path) -> str:
    """Digest of one file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str
        Hexadecimal.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _share(folder: Path) -> None:
    """Give files and folders the modes that the user's umask asks for: safetensors and mkdtemp keep all others out."""
    mask = os.umask(0)
    os.umask(mask)
    for path in (folder, *folder.rglob("*")):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)


def _swap(new: Path, path: Path) -> None:
    """Put the new folder in place; a folder cannot be renamed over a full one, so the old one steps aside first."""
    if path.exists():
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
        os.replace(path, aside / path.name)
        os.replace(new, path)
        shutil.rmtree(aside)
    else:
        os.replace(new, path)
