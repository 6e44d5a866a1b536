"""Bytes or HDU to record: the only place that spells a FITS keyword, a CSV column or a file's magic bytes."""

from __future__ import annotations

import importlib
from functools import cache

from transforms.attempt import NoReader, Unreadable, is_ours
from transforms.readers.format import Entry, Format, Source
from transforms.records import Image

#: Modules that define ``FORMATS``, the most special first.
MODULES = (
    "transforms.readers.survey_spectra",
    "transforms.readers.spectra",
    "transforms.readers.mission_light_curves",
    "transforms.readers.light_curves",
    "transforms.readers.images",
    "transforms.readers.stamps",
)
__all__ = ["MODULES", "Entry", "Format", "Source", "formats", "identify"]


@cache
def formats() -> dict[str, Format]:
    """All formats by name, in the order in which they are tried.

    Returns
    -------
    dict of str to Format
        The registry.
    """
    found: dict[str, Format] = {}
    for module in MODULES:
        for item in importlib.import_module(module).FORMATS:
            if item.name in found:
                raise ValueError(f"two readers are named {item.name!r}")
            found[item.name] = item
    return found


def identify(source: Source) -> Format:
    """Find the format of a file from its content.

    Parameters
    ----------
    source : Source
        The opened file.

    Returns
    -------
    Format
        The first that claims it.

    Raises
    ------
    Unreadable
        Where the file is empty, damaged or FITS without any header that can be parsed.
    NoReader
        Where the file is whole but of no kind that we read.
    """
    if not source.head:
        raise Unreadable(f"file is empty (0 bytes): {source.file.source}")
    if source.is_fits:
        _ = source.hdus  # a damaged header is a clear error of its own, not "no reader"
    for item in formats().values():
        try:
            claimed = item.sniff(source)
        except Exception as error:  # a sniff that stumbles over an odd file has answered no
            if is_ours(error):
                raise
            continue
        if claimed:
            if source.is_fits and item.record is not Image:  # an image can be whole in the extensions before the cut
                _check_whole(source)
            return item
    raise NoReader(f"{source.file.source}: {_summary(source)}, which no reader takes")


def _check_whole(source: Source) -> None:
    missing = source.missing_bytes()
    if missing:
        raise Unreadable(f"{source.file.source} is cut off: {missing} bytes that its headers announce are missing")


def _summary(source: Source) -> str:
    if source.is_fits:
        parts = []
        for index, hdu in enumerate(source.hdus):
            shape = "x".join(str(n) for n in reversed(getattr(hdu, "shape", None) or ()))
            parts.append(f"{index}:{type(hdu).__name__}{'[' + shape + ']' if shape else ''}")
            if index == 7:
                parts.append("...")
                break
        return "FITS with " + ", ".join(parts)
    if source.is_text:
        first = source.text.lstrip().split("\n", 1)[0][:60]
        return f"text that begins with {first!r}"
    return f"bytes that begin with {source.head[:8].hex(' ')}"
