"""Where rows lie on the HEALPix sphere: index, pixel, and the neighbour pixels whose margin a row belongs to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pyarrow as pa
from astropy import units as u
from astropy_healpix import HEALPix

from pipeline.catalog import MARGIN, MARGIN_ARCSEC, PRIMARY, UNPLACED

INDEX_ORDER = 29


@lru_cache(maxsize=32)
def _grid(order: int) -> HEALPix:
    return HEALPix(nside=1 << order, order="nested")


def healpix_29(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Nested index of order 29.

    Parameters
    ----------
    ra, dec : ndarray of float64
        ICRS position in degrees.

    Returns
    -------
    ndarray of int64
        One index each.

    Raises
    ------
    ValueError
        For a declination beyond the poles.
    """
    if dec.size and (np.abs(dec) > 90).any():
        raise ValueError(f"declination {dec[np.abs(dec) > 90][0]!r} lies beyond the pole")
    return _grid(INDEX_ORDER).lonlat_to_healpix(ra * u.deg, dec * u.deg).astype(np.int64)


def pixels(index: np.ndarray, order: int) -> np.ndarray:
    """Pixel of an order that an index of order 29 lies in.

    Parameters
    ----------
    index : ndarray of int64
        Of order 29.
    order : int
        At most 29.

    Returns
    -------
    ndarray of int64
        Pixels.
    """
    return index >> 2 * (INDEX_ORDER - order)


def margin_order(arcsec: float = MARGIN_ARCSEC) -> int:
    """Finest order whose pixels are at least twice as wide as a margin.

    Parameters
    ----------
    arcsec : float
        Width of the margin.

    Returns
    -------
    int
        HEALPix order.
    """
    return math.floor(math.log2(math.sqrt(math.pi / 3) / math.radians(arcsec / 3600) / 2))


def margins(index: np.ndarray, order: int, arcsec: float = MARGIN_ARCSEC) -> tuple[np.ndarray, np.ndarray]:
    """The other pixels that each position lies near to.

    A position belongs to the margin of pixel P where one of the eight neighbours of its fine pixel lies in P. That is
    all positions within the margin's width, and a few more.

    Parameters
    ----------
    index : ndarray of int64, shape (n,)
        Of order 29.
    order : int
        Of the catalog.
    arcsec : float
        Width of the margin.

    Returns
    -------
    rows, pixel : ndarray of int64, shape (m,)
        Which position lies in the margin of which pixel; sorted by row, then pixel, each pair once.
    """
    fine = margin_order(arcsec)
    around = np.atleast_2d(_grid(fine).neighbours(pixels(index, fine))).astype(np.int64).reshape(8, -1)
    near = np.where(around < 0, -1, around >> 2 * (fine - order))
    near[near == pixels(index, order)] = -1  # its own pixel (broadcast over the eight)
    near.sort(axis=0)
    first = np.ones(near.shape, dtype=bool)
    first[1:] = near[1:] != near[:-1]
    rows, which = np.nonzero((first & (near >= 0)).T)
    return rows.astype(np.int64), near.T[rows, which]


def place(table: pa.Table, order: int) -> Iterator[tuple[str, int, pa.Table]]:
    """Fill ``_healpix_29`` and split rows by the file that they go to.

    Parameters
    ----------
    table : pyarrow.Table
        With ``ra``, ``dec`` and ``_healpix_29``.
    order : int
        Of the catalog.

    Yields
    ------
    kind, pixel, rows : str, int, pyarrow.Table
        Primary and margin rows of a pixel; rows without a position as unplaced, pixel -1.
    """
    placed = np.logical_and(*(table[name].is_valid().to_numpy() for name in ("ra", "dec")))
    if not placed.all():
        yield UNPLACED, -1, table.filter(pa.array(~placed))
        table = table.filter(pa.array(placed))
    if not table.num_rows:
        return
    index = healpix_29(table["ra"].to_numpy(), table["dec"].to_numpy())
    column = table.schema.get_field_index("_healpix_29")
    table = table.set_column(column, table.schema.field(column), pa.array(index))
    yield from _split(PRIMARY, table, np.arange(index.size), pixels(index, order))
    yield from _split(MARGIN, table, *margins(index, order))


def _split(kind: str, table: pa.Table, rows: np.ndarray, pixel: np.ndarray) -> Iterator[tuple[str, int, pa.Table]]:
    order = np.argsort(pixel, kind="stable")
    table, pixel = table.take(pa.array(rows[order])), pixel[order]
    for start, stop in pairwise(np.flatnonzero(np.diff(pixel, prepend=-1, append=-1)).tolist()):
        yield kind, int(pixel[start]), table.slice(start, stop - start)
