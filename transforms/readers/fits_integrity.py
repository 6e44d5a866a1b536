"""Are the bytes of a FITS extension all there, and are they the ones that were written?"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from transforms.attempt import Unreadable
from transforms.readers.format import Source

BLOCK = 2880
_CHUNK = 8 << 20  # a multiple of 4; bounds the memory of a large plane's sum
_ALL_ONES = 0xFFFFFFFF


def check_integrity(source: Source, index: int) -> None:
    """Refuse an extension that is cut short or whose checksums do not hold.

    Parameters
    ----------
    source : Source
        The opened file.
    index : int
        Number of the extension.

    Raises
    ------
    Unreadable
        Naming the bytes that are missing, or the sum that is stated and the one that was found.

    Notes
    -----
    ``DATASUM`` covers the data, ``CHECKSUM`` header and data (FITS standard 4.0, section 4.4.2.7 and appendix J). A
    keyword that is absent, or empty, or no checksum at all (some archives write 0) is not checked. Tools that cut out a
    piece and keep the header leave stale sums; ``--no-checksums`` reads them.
    """
    info = source.hdus.fileinfo(index)
    start, span = info["datLoc"], info["datSpan"]
    hdu = source.hdus[index]
    with source.stream() as stream:
        size = stream.seek(0, os.SEEK_END)
        _check_length(source, index, hdu, start, span, size)
        if source.options.get("checksums", True) in (False, "ignore"):
            return
        header = _raw_header(stream, info["hdrLoc"], start)
        datasum, checksum = _card(header, "DATASUM"), _card(header, "CHECKSUM")
        if not datasum.isdigit() and len(checksum) != 16:
            return
        stream.seek(start)
        found = _sum_stream(stream, span)
        if (
            datasum.isdigit()
            and int(datasum) != found
            and (int(datasum), found) not in ((0, _ALL_ONES), (_ALL_ONES, 0))
        ):
            raise Unreadable(
                f"HDU {index} of {source.file.source} is damaged: DATASUM is {datasum}, the data sum to {found} "
                "(--no-checksums reads it all the same)"
            )
        if len(checksum) == 16 and _fold(_sum_bytes(header) + found) not in (_ALL_ONES, 0):
            total = _fold(_sum_bytes(header) + found)
            raise Unreadable(
                f"HDU {index} of {source.file.source} was changed after its checksum was written: CHECKSUM is "
                f"{checksum!r}, the sum is {total:#010x} instead of 0xffffffff"
            )


def _check_length(source: Source, index: int, hdu: Any, start: int, span: int, size: int) -> None:
    needed = start + (hdu.size if type(hdu).__name__ in ("PrimaryHDU", "ImageHDU") else span - BLOCK + 1)
    if span and size < needed:
        raise Unreadable(f"{source.file.source} is cut short: HDU {index} ends at byte {needed}, the file has {size}")


def _raw_header(stream: Any, start: int, stop: int) -> bytes:
    stream.seek(start)
    return stream.read(stop - start)


def _card(header: bytes, name: str) -> str:
    """Value of a string card, from the raw bytes: a compressed image's own header shows other cards."""
    for at in range(0, len(header), 80):
        card = header[at : at + 80].decode("latin-1")
        if card.startswith(f"{name:8s}="):
            value = card[10:].split("/", 1)[0].strip()
            return value.strip("'").strip() if value.startswith("'") else ""
    return ""


def _sum_stream(stream: Any, span: int) -> int:
    total, left = 0, span
    while left > 0:
        chunk = stream.read(min(_CHUNK, left))
        if not chunk:
            break
        total = _fold(total + _sum_bytes(chunk))
        left -= len(chunk)
    return total


def _sum_bytes(data: bytes) -> int:
    whole = len(data) // 4 * 4
    words = np.frombuffer(data, dtype=">u4", count=whole // 4)
    rest = int.from_bytes(data[whole:].ljust(4, b"\0"), "big") if len(data) > whole else 0
    return _fold(int(words.sum(dtype=np.uint64)) + rest)


def _fold(total: int) -> int:
    """One's-complement sum: carries beyond 32 bits are added back."""
    while total > _ALL_ONES:
        total = (total & _ALL_ONES) + (total >> 32)
    return total
