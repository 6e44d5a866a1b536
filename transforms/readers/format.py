"""What a file format must offer, and the opened file that it is asked about.

A reader module defines ``FORMATS``, a tuple of ``Format``. A file is offered to the formats in the order of
``transforms.readers.FORMATS`` and the first whose ``sniff`` says yes owns it.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import fsspec

from transforms.attempt import Unreadable
from transforms.locations import is_streamed, local_path, open_url
from transforms.records import FileRef, Identity, Item

HEAD = 1 << 16
_PACKED: tuple[tuple[bytes, str, Callable[[bytes], bytes]], ...] = (
    (b"\x1f\x8b", "gzip", gzip.decompress),
    (b"BZh", "bzip2", bz2.decompress),
    (b"\xfd7zXZ\x00", "xz", lzma.decompress),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of an item, not decoded yet.

    Parameters
    ----------
    row : int
        Row, aperture or tile number, for the reject row if decoding fails.
    load : callable
        ``load() -> Record``; raises ``Unreadable`` or ``Unusable`` with a sentence that names the value.
    object_id : str
        Where it is known without decoding.
    """

    row: int
    load: Callable[[], Identity]
    object_id: str = ""


class Source:
    """One input file, opened once: bytes unpacked, FITS parsed at most once. Use as a context manager.

    Parameters
    ----------
    file : FileRef
        The file.
    options : mapping
        What the user declared, such as the columns of a light-curve table (``RunConfig.reader_options``).
    """

    def __init__(self, file: FileRef, options: Mapping[str, Any] = MappingProxyType({})) -> None:
        self.file = file
        self.options = options
        self._fits: Any = None

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the FITS file, if one was opened."""
        if self._fits is not None:
            self._fits.close()
            self._fits = None

    @property
    def url(self) -> str:
        """Full URL."""
        return self.file.url

    @property
    def name(self) -> str:
        """Last part of the URL, in lower case, with the packing suffix."""
        return self.url.rstrip("/").rsplit("/", 1)[-1].lower()

    @cached_property
    def local(self) -> str | None:
        """Path on this machine, or None for a remote URL."""
        return local_path(self.url)

    @cached_property
    def raw_head(self) -> bytes:
        """The first 64 kB as stored."""
        with open_url(self.url) as stream:
            return stream.read(HEAD)

    @cached_property
    def packing(self) -> str:
        """``"gzip"``, ``"bzip2"``, ``"xz"`` or empty."""
        return next((name for magic, name, _ in _PACKED if self.raw_head.startswith(magic)), "")

    @cached_property
    def content(self) -> bytes:
        """The whole file, unpacked.

        Raises
        ------
        Unreadable
            For a file that is empty or whose packing is damaged.
        """
        with open_url(self.url) as stream:
            data = stream.read()
        if not data:
            raise Unreadable(f"file is empty (0 bytes): {self.file.source}")
        for magic, name, unpack in _PACKED:
            if data.startswith(magic):
                try:
                    return unpack(data)
                except (OSError, EOFError, lzma.LZMAError, zlib.error, ValueError) as error:
                    raise Unreadable(f"damaged {name} stream in {self.file.source}: {error}") from error
        if data[:2] == b"\x1f\x9d":
            raise Unreadable(f"{self.file.source} is packed by Unix compress (.Z), which is not supported; use gzip")
        return data

    @cached_property
    def head(self) -> bytes:
        """The first 64 kB, unpacked."""
        return self.content[:HEAD] if self.packing or self.raw_head[:2] == b"\x1f\x9d" else self.raw_head

    @cached_property
    def is_fits(self) -> bool:
        """True where the bytes begin as FITS does."""
        return self.head.startswith(b"SIMPLE  =")

    @cached_property
    def text(self) -> str:
        """The whole file as text, UTF-8 with Latin-1 as the fallback; newlines normalised."""
        try:
            text = self.content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = self.content.decode("latin-1")
        return text.replace("\r\n", "\n").replace("\r", "\n")

    @cached_property
    def is_text(self) -> bool:
        """True where the head holds no control bytes other than white space."""
        return bool(self.head) and not any(byte < 9 or 13 < byte < 32 for byte in self.head[:4096])

    def stream(self) -> io.BufferedIOBase:
        """Open the unpacked bytes for random access.

        Returns
        -------
        file object
            Binary, seekable; the caller closes it.
        """
        if self.packing or is_streamed(self.url):
            return io.BytesIO(self.content)
        return open_url(self.url)

    @property
    def hdus(self) -> Any:
        """The ``astropy.io.fits.HDUList``, opened lazily (memory-mapped where the file is local and not packed).

        Raises
        ------
        Unreadable
            Where the file is not FITS or its first header is damaged.
        """
        if self._fits is None:
            from astropy.io import fits

            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    if self.local is not None and not self.packing:
                        self._fits = fits.open(self.local, memmap=True, lazy_load_hdus=True)
                    else:
                        self._fits = fits.open(self.stream(), lazy_load_hdus=True)
            except Exception as error:
                raise Unreadable(f"not readable as FITS: {self.file.source}: {error}") from error
        return self._fits

    @cached_property
    def instrument(self) -> str:
        """TELESCOP and INSTRUME of the first header, empty where there is none."""
        if not self.is_fits:
            return ""
        cards = (str(self.hdus[0].header.get(name) or "").strip() for name in ("TELESCOP", "INSTRUME"))
        return " ".join(filter(None, cards))

    def missing_bytes(self) -> int:
        """How many bytes the FITS headers announce beyond the end of the file.

        Returns
        -------
        int
            0 for a file that is whole; the padding of the last block does not count.
        """
        if self.packing:
            size = len(self.content)
        elif self.local is not None:
            size = os.path.getsize(self.local)
        else:
            size = self.file.size
        ends = [0]
        for hdu in self.hdus:
            place = hdu.fileinfo()
            if place:
                ends.append(place["datLoc"] + (hdu.size if place["datSpan"] else 0))
        return max(0, max(ends) - size)

    def sibling(self, name: str) -> str | None:
        """Find a file beside this one.

        Parameters
        ----------
        name : str
            File name.

        Returns
        -------
        str or None
            Its URL, or None where there is none.
        """
        folder = self.url.rsplit("/", 1)[0] if "/" in self.url else "."
        url = f"{folder}/{name}"
        if self.local is not None:
            return url if os.path.exists(url.removeprefix("file://")) else None
        fs, path = fsspec.core.url_to_fs(url)
        return url if fs.exists(path) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """One kind of file.

    Parameters
    ----------
    name : str
        Snake case, unique.
    record : type
        The record class that its entries load: Image, Cutout, Spectrum or LightCurve.
    description : str
        One sentence for ``docs/formats.md``.
    sniff : callable
        ``sniff(source) -> bool`` from the content (the name only for companions). Must not raise for odd files:
        an exception counts as no.
    items : callable
        ``items(source) -> sequence of Item``: what the file holds. May be empty for a companion file that another
        file will read (its rows then come from there). Raises ``Unreadable`` or ``Unusable``.
    entries : callable
        ``entries(source, item) -> iterator of Entry``: the objects of one item, decoded one by one when loaded.
    """

    name: str
    record: type
    description: str
    sniff: Callable[[Source], bool]
    items: Callable[[Source], Sequence[Item]]
    entries: Callable[[Source, Item], Iterator[Entry]] = field()
