"""NumPy archives with the planes of one field: ``images`` and, where known, ``variance``, ``mask``, ``filters``."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from transforms.attempt import Unreadable, Unusable
from transforms.flags import bits
from transforms.readers.format import Entry, Format, Source
from transforms.readers.image_layout import SMALLEST
from transforms.readers.mask_bits import decode_lsst
from transforms.records import Image, Item


def _sniff(source: Source) -> bool:
    if not source.head.startswith(b"PK\x03\x04"):
        return False
    with zipfile.ZipFile(io.BytesIO(source.content)) as archive:
        return "images.npy" in archive.namelist()


def _items(source: Source) -> list[Item]:
    return [Item(file=source.file, format="npz_images")]


def _entries(source: Source, item: Item) -> Iterator[Entry]:
    planes = _arrays(source)
    for row in range(len(planes["images"])):
        yield Entry(row, partial(_load, source, planes, row))


def _arrays(source: Source) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        with np.load(io.BytesIO(source.content), allow_pickle=False) as archive:
            for name in ("images", "variance", "mask", "filters"):
                if name in archive.files:
                    found[name] = archive[name]
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise Unreadable(
            f"{source.file.source} can't be read as plain arrays (pickles are not loaded): {error}"
        ) from error
    shape = found["images"].shape
    if len(shape) != 3 or min(shape[1:]) < SMALLEST or not np.issubdtype(found["images"].dtype, np.number):
        raise Unusable(f"array 'images' of {source.file.source} has shape {shape}; (band, y, x) is needed")
    for name in ("variance", "mask"):
        if name in found and found[name].shape != shape:
            raise Unusable(
                f"array {name!r} of {source.file.source} has shape {found[name].shape}, 'images' has {shape}"
            )
    return found


def _load(source: Source, planes: dict[str, Any], row: int) -> Image:
    flux = np.array(planes["images"][row], dtype=np.float32, order="C")
    mask = ~np.isfinite(flux)
    ivar = saturated = None
    if "variance" in planes:
        variance = np.asarray(planes["variance"][row], np.float64)
        good = np.isfinite(variance) & (variance > 0)
        ivar = np.where(good, 1 / np.where(good, variance, 1), 0).astype(np.float32)
        mask |= ~good
    if "mask" in planes:
        decoded = decode_lsst(planes["mask"][row])
        mask, saturated = mask | decoded.bad, decoded.saturated
    if mask.all():
        raise Unusable(f"all {mask.size} pixels of plane {row} of {source.file.source} are masked or not finite")
    filters = planes.get("filters")
    return Image(
        source=source.file.source,
        row=row,
        flags=bits("NO_TIME", "NO_WCS", "NO_POSITION", "UNCALIBRATED"),
        flux=flux,
        ivar=ivar,
        mask=mask,
        saturated=saturated,
        core=(0, flux.shape[0], 0, flux.shape[1]),
        band=str(filters[row]) if filters is not None and len(filters) > row else "",
    )


NPZ = Format(
    name="npz_images",
    record=Image,
    description="NumPy archive of the bands of one field: images, variance, mask (LSST bits), filters",
    sniff=_sniff,
    items=_items,
    entries=_entries,
)
