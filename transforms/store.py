"""The only door to what we store: any fsspec URL; on a local disk every write is durable and atomic."""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import IO

from fsspec.implementations.local import LocalFileSystem

from transforms.locations import file_system

SYNC_THREADS = 8
TEMPORARY = re.compile(r"(^|/)\.[^/]+\.\d+\.tmp\Z")  #: A file that is not whole yet.


class OutputError(OSError):
    """The catalog cannot be written or read; what was committed before is intact."""


class Busy(OutputError):
    """Another process holds what is to be changed."""


@contextmanager
def _guard(action: str, path: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, OutputError):
        raise
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        raise OutputError(f"cannot {action} {path!r}: {why}; what was committed before is intact") from error


class Store:
    """Files below one root, by relative path with forward slashes.

    Parameters
    ----------
    root : str
        Folder or fsspec URL.
    """

    def __init__(self, root: str) -> None:
        self.url = root
        self.fs, path = file_system(root)
        self.root = path.rstrip("/")
        self.local = isinstance(self.fs, LocalFileSystem)

    def path(self, name: str) -> str:
        """Full path of a file.

        Parameters
        ----------
        name : str
            Relative path.

        Returns
        -------
        str
            As the file system wants it.
        """
        return f"{self.root}/{name}" if name else self.root

    def exists(self, name: str) -> bool:
        """Say whether a file is there.

        Parameters
        ----------
        name : str
            Relative path.

        Returns
        -------
        bool
            True for files and folders.
        """
        with _guard("look for", self.path(name)):
            return bool(self.fs.exists(self.path(name)))

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """Read a file, or a part of it.

        Parameters
        ----------
        name : str
            Relative path.
        start, end : int, optional
            Bytes, ``start <= byte < end``; the whole file where not given.

        Returns
        -------
        bytes
            Its content.

        Raises
        ------
        FileNotFoundError
            Where it is not there.
        """
        with _guard("read", self.path(name)):
            return bytes(self.fs.cat_file(self.path(name), start, end))

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file to read parts of it.

        Parameters
        ----------
        name : str
            Relative path.

        Yields
        ------
        file object
            Its bytes.

        Raises
        ------
        FileNotFoundError
            Where it is not there.
        """
        with _guard("read", self.path(name)), self.fs.open(self.path(name), "rb") as stream:
            yield stream

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Write a whole file: readers see the old one or the new one, never a part.

        Parameters
        ----------
        name : str
            Relative path.
        data : bytes
            Its content.
        durable : bool
            Have it on the disk when this returns; where False, ``sync`` does it for many files at once.

        Raises
        ------
        OutputError
            No space, no permission.
        """
        if self.local:
            with self.create(name, durable=durable) as stream:
                stream.write(data)
            return
        path = self.path(name)
        with _guard("write", path):
            self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            self.fs.pipe_file(path, data)

    @contextmanager
    def create(self, name: str, *, durable: bool = True) -> Iterator[IO[bytes]]:
        """Write a file bit by bit; it is there, whole, when the block ends without an error.

        Parameters
        ----------
        name : str
            Relative path.
        durable : bool
            As in ``write``.

        Yields
        ------
        file object
            Takes bytes; a file elsewhere is made on the local disk first.

        Raises
        ------
        OutputError
            No space, no permission.
        """
        path = self.path(name)
        folder, _, leaf = path.rpartition("/")
        with _guard("write", path):
            self.fs.makedirs(folder, exist_ok=True)
            if not self.local:
                with tempfile.NamedTemporaryFile() as stream:
                    yield stream
                    stream.flush()
                    self.fs.put_file(stream.name, path)
                return
            # processes of different machines, and threads of one, may write the same file at once
            temporary = f"{folder}/.{leaf}.{os.getpid()}{secrets.randbelow(10**9):09d}.tmp"
            try:
                with open(temporary, "wb") as stream:
                    yield stream
                    stream.flush()
                    if durable:
                        os.fsync(stream.fileno())
                os.replace(temporary, path)
            except BaseException:
                with suppress(OSError):
                    os.remove(temporary)
                raise
            if durable:
                _sync(folder)

    def move(self, name: str, to: str) -> None:
        """Rename a file over what is there; ``sync`` makes it durable.

        Parameters
        ----------
        name, to : str
            Relative paths.

        Raises
        ------
        OutputError
            No permission.
        FileNotFoundError
            Where ``name`` is not there.
        """
        source, target = self.path(name), self.path(to)
        with _guard("put in place", target):
            self.fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            if self.local:
                os.replace(source, target)
            else:
                self.fs.mv(source, target)

    def sync(self, names: Iterable[str]) -> None:
        """Bring files and their names onto the disk; side by side, so that the file system can do many at once.

        Parameters
        ----------
        names : iterable of str
            Relative paths.

        Raises
        ------
        OutputError
            Where the disk is full or broken.
        """
        if not self.local:
            return
        files = sorted({self.path(name) for name in names})
        folders = sorted({path.rpartition("/")[0] for path in files})
        with _guard("write", self.root), ThreadPoolExecutor(SYNC_THREADS) as pool:
            for _ in pool.map(_sync, files):
                pass
            for _ in pool.map(_sync, folders):
                pass

    def modified(self, name: str) -> float:
        """When a file was written.

        Parameters
        ----------
        name : str
            Relative path.

        Returns
        -------
        float
            Unix time, in s.

        Raises
        ------
        FileNotFoundError
            Where it is not there.
        """
        with _guard("look for", self.path(name)):
            return float(self.fs.modified(self.path(name)).timestamp())

    def remove(self, name: str) -> None:
        """Remove a file, and the folders that it leaves empty; a file that is gone already is no error.

        Parameters
        ----------
        name : str
            Relative path.
        """
        path = self.path(name)
        with _guard("remove", path):
            with suppress(FileNotFoundError):
                self.fs.rm_file(path)
            if self.local:
                folder = path.rpartition("/")[0]
                with suppress(OSError):  # ends at the first folder that is not empty
                    while len(folder) > len(self.root):
                        os.rmdir(folder)
                        folder = folder.rpartition("/")[0]

    def remove_tree(self, name: str) -> None:
        """Remove a folder with all that is in it.

        Parameters
        ----------
        name : str
            Relative path; not the root.
        """
        if not name:
            raise ValueError("the root of a catalog is never removed")
        with _guard("remove", self.path(name)), suppress(FileNotFoundError):
            self.fs.rm(self.path(name), recursive=True)

    def find(self, name: str = "") -> list[str]:
        """All files below a folder, hidden ones too.

        Parameters
        ----------
        name : str
            Relative path of the folder.

        Returns
        -------
        list of str
            Relative paths, sorted; empty where the folder is not there.
        """
        with _guard("list", self.path(name)):
            try:
                found = self.fs.find(self.path(name))
            except FileNotFoundError:
                return []
        return sorted(path[len(self.root) :].lstrip("/") for path in found)

    def folders(self, name: str = "") -> list[str]:
        """Names of the folders directly below a folder.

        Parameters
        ----------
        name : str
            Relative path of the folder.

        Returns
        -------
        list of str
            Last parts of their paths, sorted.
        """
        with _guard("list", self.path(name)):
            try:
                found = self.fs.ls(self.path(name), detail=True)
            except FileNotFoundError:
                return []
        return sorted(e["name"].rstrip("/").rpartition("/")[2] for e in found if e["type"] == "directory")

    @contextmanager
    def held(self, name: str, what: str, busy: type[Busy] = Busy) -> Iterator[None]:
        """Hold a lock, for one writer at a time; the operating system lets go of it when the process ends.

        Parameters
        ----------
        name : str
            Relative path of the lock file; it is never replaced, so that all who hold it hold the same file.
        what : str
            What is written to, for the message.
        busy : type
            Of the error.

        Yields
        ------
        None
            While it is held; other file systems than the local one cannot be locked.

        Raises
        ------
        Busy
            Where another process holds it.
        OutputError
            Where the folder cannot be made or written.
        """
        if not self.local:
            yield
            return
        import fcntl

        path = self.path(name)
        with _guard("write", path):
            os.makedirs(path.rpartition("/")[0], exist_ok=True)
            handle = open(path, "a", encoding="utf-8")  # noqa: SIM115 - held beyond the guard
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise busy(f"another run is writing to {what}; wait for it") from error
            yield


def _sync(path: str) -> None:
    """Bring a file, or the names in a folder, onto the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
