"""Tiles of a plane that is too large to be held at once: cores that touch, with an overlap about each."""

from __future__ import annotations

from collections.abc import Iterator

LARGEST = 4096  #: Pixels of a side up to which a plane is taken whole.
CORE = 2048  #: A multiple of the background mesh, so that neighbours see the same cells.
OVERLAP = 256  #: Pixels about a core; four mesh cells, after which the sky of two neighbours is the same.


def tiles(
    ny: int, nx: int, largest: int = LARGEST, core: int = CORE, overlap: int = OVERLAP
) -> Iterator[tuple[int, ...]]:
    """List the sections of a plane.

    Parameters
    ----------
    ny, nx : int
        Pixels of the plane.
    largest : int
        Side up to which the plane is left whole.
    core, overlap : int
        Pixels.

    Yields
    ------
    tuple of int
        ``(y0, y1, x0, x1)`` of the pixels to read, overlap included; empty once for a plane that is left whole.
    """
    if max(ny, nx) <= largest:
        yield ()
        return
    for y in range(0, ny, core):
        for x in range(0, nx, core):
            yield max(0, y - overlap), min(ny, y + core + overlap), max(0, x - overlap), min(nx, x + core + overlap)


def core_of(
    section: tuple[int, ...], ny: int, nx: int, core: int = CORE, overlap: int = OVERLAP
) -> tuple[int, int, int, int]:
    """Find the core of a section, which owns the sources whose centroid it holds.

    Parameters
    ----------
    section : tuple of int
        As ``tiles`` gave it.
    ny, nx : int
        Pixels of the plane.
    core, overlap : int
        As ``tiles`` took them.

    Returns
    -------
    tuple of int
        ``(y0, y1, x0, x1)``; the cores of all tiles cover each pixel once.
    """
    if not section:
        return 0, ny, 0, nx
    y0 = section[0] + overlap if section[0] else 0
    x0 = section[2] + overlap if section[2] else 0
    return y0, min(ny, y0 + core), x0, min(nx, x0 + core)
