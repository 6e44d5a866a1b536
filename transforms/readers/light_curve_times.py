"""What the times of a light curve count: days or seconds, from which zero point, in which scale."""

from __future__ import annotations

import re
from dataclasses import dataclass

from transforms.attempt import Unusable

_JD = -2400000.5  #: To be added to a Julian date for MJD.


@dataclass(frozen=True, slots=True)
class System:
    """A way to count days.

    Parameters
    ----------
    offset : float
        Days to add for MJD.
    scale : str
        ``"tdb"``, ``"tai"``, ``"tcb"`` or empty where the name does not say.
    reduced : str
        System of the same days from JD 2400000, where its values may turn out to be reduced by that.
    """

    offset: float
    scale: str = ""
    reduced: str = ""


#: Known systems. ``r...`` count from JD 2400000, half a day before MJD does; ``gaia`` from JD 2455197.5 (TCB).
TABLE: dict[str, System] = {
    "mjd": System(0.0),
    "jd": System(_JD, reduced="rjd"),
    "hjd": System(_JD, reduced="rhjd"),
    "bjd": System(_JD, "tdb", reduced="rbjd"),
    "hmjd": System(0.0),
    "bmjd": System(0.0, "tdb"),
    "tai": System(0.0, "tai"),
    "tcb": System(0.0, "tcb"),
    "btjd": System(2457000 + _JD, "tdb"),
    "bkjd": System(2454833 + _JD, "tdb"),
    "rjd": System(2400000 + _JD),
    "rhjd": System(2400000 + _JD),
    "rbjd": System(2400000 + _JD, "tdb"),
    "ogle": System(2450000 + _JD),
    "gaia": System(2455197.5 + _JD, "tcb"),
}
SYSTEMS = tuple(TABLE)
UNSTATED = (
    "unstated"  #: Where even a guess from the values would be wrong: seconds, minutes or hours from an unstated zero.
)
_WORDS = ("bmjd", "hmjd", "mjd", "bjd", "hjd", "jd")
_NICKNAMES = {"bkjd": "bkjd", "btjd": "btjd", "tai": "tai", "tcb": "tcb"}
_ZERO = re.compile(r"(?:\b([bh]?jd)\b)?([^0-9]*?)(24\d{5}(?:\.\d+)?)")
_FULL = (2.4e6, 2.5e6)  #: Julian dates of the years 1858 to 2132.
_REDUCED = (3.0e4, 8.0e4)  #: The same for days from 1858 on, when nothing names the system: 1941 to 2077.
_POSSIBLE = (1.0e4, 1.0e5)  #: MJD of the years 1886 to 2132, which any stated system has to give.
_DAYS = {
    "": 1.0, "-": 1.0, "---": 1.0, "none": 1.0,
    "utc": 1.0, "ut": 1.0, "tt": 1.0, "tdb": 1.0, "date": 1.0,  # brackets after a name: a scale, not a unit
    "d": 1.0, "day": 1.0, "days": 1.0,
    "h": 1 / 24, "hr": 1 / 24, "hour": 1 / 24, "hours": 1 / 24,
    "min": 1 / 1440, "minute": 1 / 1440, "minutes": 1 / 1440,
    "s": 1 / 86400, "sec": 1 / 86400, "second": 1 / 86400, "seconds": 1 / 86400,
    "ms": 1 / 86400e3, "us": 1 / 86400e6, "yr": 365.25, "year": 365.25, "a": 365.25,
}  # fmt: skip


def days_in(unit: str, column: str) -> float:
    """Days in one unit of a column of times.

    Parameters
    ----------
    unit : str
        As the file states it, such as ``"s"`` or ``"BJD - 2457000, days"``; empty where it does not.
    column : str
        Name of the column, for the message.

    Returns
    -------
    float
        1 for days and for no unit.

    Raises
    ------
    Unusable
        For a unit that is none of time.
    """
    plain = unit.strip().lower()
    found = _DAYS.get(plain, 1.0 if system_of("", unit) or "day" in plain else None)
    if found is None:
        raise Unusable(f"the times in column {column!r} have the unit {unit!r}, which is no unit of time known here")
    return found


def system_of(name: str, unit: str = "") -> str:
    """Time system from a column's name and unit.

    Parameters
    ----------
    name, unit : str
        Such as ``"HJD"`` or ``"BJD - 2457000, days"``; a unit that states a zero point outweighs the name.

    Returns
    -------
    str
        One of ``SYSTEMS``, ``"jd-2450000"`` and the like for another stated zero point, or empty.
    """
    by_unit, by_name = _spelled(unit.strip().lower()), _spelled(name.strip().lower())
    bare = by_unit in TABLE and TABLE[by_unit].reduced  # "JD" as a unit says less than a column named "HJD"
    return by_name if by_name and (bare or not by_unit) else by_unit


def _spelled(text: str) -> str:
    """The system that one text names."""
    zero = _ZERO.search(text)
    if zero is not None:
        centre = zero[1] or ""
        exact = next((name for name in ("btjd", "bkjd", "gaia") if float(zero[3]) == TABLE[name].offset - _JD), "")
        return exact if exact and centre in ("", "bjd") else f"{centre or 'jd'}-{float(zero[3]):.10g}"
    for nickname, system in _NICKNAMES.items():
        if nickname in text:
            return system
    for word in _WORDS:
        if re.search(rf"(^|[^a-z]){word}([^a-z]|$)", text):
            return word
    return "mjd" if text.endswith("mjd") else ""  # ObsMJD, expMidptMJD


def find_system(name: str) -> System | None:
    """Look a system up.

    Parameters
    ----------
    name : str
        One of ``SYSTEMS``, or a Julian date less a number, such as ``"hjd-2450000"``.

    Returns
    -------
    System or None
        None where it is not known.
    """
    if name in TABLE:
        return TABLE[name]
    zero = re.fullmatch(r"([bh]?jd)-(24\d{5}(?:\.\d+)?)", name)
    return System(float(zero[2]) + _JD, TABLE[zero[1]].scale) if zero else None


def to_mjd(middle: float, system: str) -> tuple[float, str, str, bool]:
    """Days to add for MJD.

    Parameters
    ----------
    middle : float
        A typical time of the table in days.
    system : str
        Declared or named system; empty: told from the value.

    Returns
    -------
    offset : float
        To be added; NaN where the zero point cannot be known.
    scale : str
        ``"tdb"``, ``"tai"``, ``"tcb"`` or empty where it is not stated.
    system : str
        The system, for the catalog.
    sure : bool
        False where a column named as a Julian date holds reduced ones, whose zero point is not stated: JD 2400000 is
        taken, and MJD in their place would be half a day off.
    """
    if not system:
        system = "jd" if _within(middle, _FULL) else "mjd" if _within(middle, _REDUCED) else ""
    elif system == "mjd" and _within(middle, _FULL):
        system = "jd"  # no MJD of millions: the column is misnamed
    found, sure = find_system(system), True
    if found is not None and found.reduced and not _within(middle, _FULL):
        system, sure = (found.reduced, False) if _within(middle, _REDUCED) else ("", False)
        found = find_system(system)
    if found is None or not _within(middle + found.offset, _POSSIBLE):
        return float("nan"), "", "", False
    return found.offset, found.scale, system, sure


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] < value < limits[1]
