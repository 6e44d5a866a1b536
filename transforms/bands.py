"""Filters by name: central wavelength, and the place of a filter among the few slots that models know."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

#: Central wavelength in nm by lower-case name without a survey's prefix (SVO Filter Profile Service, rounded).
WAVELENGTH: dict[str, float] = {
    "u": 356.0, "g": 475.0, "r": 622.0, "i": 763.0, "z": 905.0, "y": 965.0,
    "uvw2": 206.0, "uvm2": 225.0, "uvw1": 260.0, "b": 440.0, "v": 550.0, "c": 533.0, "o": 679.0,
    "kepler": 640.0, "tess": 787.0, "bp": 511.0, "rp": 777.0, "white": 600.0, "clear": 600.0,
    "j": 1235.0, "h": 1662.0, "k": 2159.0, "ks": 2159.0,
}  # fmt: skip
#: Upper-case single letters that differ from the lower-case filter of the same letter.
_JOHNSON = {"U": 366.0, "B": 440.0, "V": 550.0, "R": 641.0, "I": 798.0, "G": 622.0, "Y": 1031.0}
SLOTS = ("u", "g", "r", "i", "z")  #: What models know; ``y`` and infrared bands share the last slot.
_EDGES = (400.0, 545.0, 690.0, 840.0)


def _plain(band: str) -> str:
    name = band.strip().lower().replace("_", "-").rsplit("-", 1)[-1]
    for prefix in ("ztf", "lsst", "sdss", "ps1", "des", "hsc"):
        name = name.removeprefix(prefix)
    name = name.removesuffix("'").removesuffix("prime")
    if len(name) == 2 and name[0] == "z" and name[1] in "gri":  # ZTF catalogs write zg, zr, zi
        return name[1]
    return name


@cache
def sdss_like(band: str) -> str | None:
    """Letter of a filter of the ugrizy family.

    Parameters
    ----------
    band : str
        Name as in the file.

    Returns
    -------
    str or None
        ``"u"`` to ``"y"``; None for other systems, such as Johnson V.
    """
    if band.strip() in _JOHNSON:
        return None
    name = _plain(band)
    return name if len(name) == 1 and name in "ugrizy" else None


@cache
def wavelength(band: str) -> float | None:
    """Central wavelength of a filter.

    Parameters
    ----------
    band : str
        Name as in the file, such as ``"g"``, ``"zg"``, ``"lsstr"``, ``"ATLAS-o"`` or ``"V"``.

    Returns
    -------
    float or None
        Nanometres; None for a name that is not known.
    """
    if band.strip() in _JOHNSON:
        return _JOHNSON[band.strip()]
    return WAVELENGTH.get(_plain(band))


def slots(bands: Sequence[str]) -> dict[str, int]:
    """Give each of an object's filters a slot of its own where there is room.

    Parameters
    ----------
    bands : sequence of str
        Names, the one with most points first.

    Returns
    -------
    dict of str to int
        Index into ``SLOTS``. Two filters that fall on one slot keep their order in wavelength; the less observed one
        moves to the nearest free slot, and stays out where none is free. An unknown name counts as white light.
    """
    taken: dict[int, str] = {}
    for band in bands:
        value = wavelength(band) or WAVELENGTH["white"]
        ideal = sum(value >= edge for edge in _EDGES)
        free = [slot for slot in range(len(SLOTS)) if slot not in taken]
        if not free:
            break
        other = taken.get(ideal)
        redder = other is not None and value >= (wavelength(other) or WAVELENGTH["white"])
        taken[min(free, key=lambda slot: (abs(slot - ideal), slot < ideal if redder else slot > ideal))] = band
    return {band: slot for slot, band in taken.items()}
