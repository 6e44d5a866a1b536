"""SNANA text files of supernova photometry (Kessler et al. 2009, PASP 121, 1028): keys, VARLIST, OBS lines."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from transforms.attempt import Unreadable
from transforms.readers.format import Entry, Format, Source
from transforms.readers.light_curve_cells import place
from transforms.readers.light_curve_record import Columns, make_light_curve
from transforms.records import Item, LightCurve

NAME = "snana_text"
FLUXCAL = 10 ** (-0.4 * (27.5 - 31.4))  #: nJy of one FLUXCAL, whose zero point is 27.5.
_NULLS = frozenset({"-9", "-9.0", "-99", "-99.0", "NULL", "nan"})


def _sniff(source: Source) -> bool:
    if not source.is_text:
        return False
    head = source.head.decode("latin-1")
    return "VARLIST:" in head and ("SNID:" in head or "SURVEY:" in head) and "OBS:" in head


def _items(source: Source) -> list[Item]:
    return [Item(file=source.file, format=NAME)]


def _entries(source: Source, item: Item) -> Iterator[Entry]:
    keys, _, _ = parse(source.text)
    yield Entry(0, partial(_load, source), keys.get("SNID", ""))


def parse(text: str) -> tuple[dict[str, str], list[str], list[list[str]]]:
    """Split a file.

    Parameters
    ----------
    text : str
        The file.

    Returns
    -------
    keys : dict of str to str
        First word after each key.
    names : list of str
        Columns of the observations.
    rows : list of list of str
        Observations.

    Raises
    ------
    Unreadable
        Where an observation has another number of words than VARLIST names, or NOBS another number of them.
    """
    keys: dict[str, str] = {}
    names: list[str] = []
    rows: list[list[str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        key, _, rest = line.partition(":")
        words = rest.split()
        if key.strip() == "OBS":
            if len(words) < len(names):
                raise Unreadable(f"line {number} has {len(words)} words, VARLIST names {len(names)} columns")
            rows.append(words[: len(names)])
        elif key.strip() == "VARLIST":
            names = words
        elif key.strip() and words and " " not in key.strip():
            keys.setdefault(key.strip(), words[0])
    stated = keys.get("NOBS", "")
    if stated.isdigit() and int(stated) != len(rows):
        raise Unreadable(f"NOBS is {stated} but {len(rows)} observations follow: the file is cut short or damaged")
    return keys, names, rows


def _column(names: list[str], rows: list[list[str]], *wanted: str) -> np.ndarray | None:
    name = next((name for name in wanted if name in names), None)
    if name is None:
        return None
    index = names.index(name)
    try:
        return np.array([np.nan if row[index] in _NULLS else float(row[index]) for row in rows])
    except ValueError as error:
        raise Unreadable(f"column {name} is not numeric: {error}") from error


def _number(keys: dict[str, str], *names: str) -> float:
    """The first of some keys that is a number, else NaN."""
    for name in names:
        try:
            return float(keys[name])
        except (KeyError, ValueError):
            continue
    return float("nan")


def _load(source: Source) -> LightCurve:
    keys, names, rows = parse(source.text)
    time, flux = _column(names, rows, "MJD"), _column(names, rows, "FLUXCAL")
    error = _column(names, rows, "FLUXCALERR")
    if time is None or flux is None or not rows:
        raise Unreadable(
            f"{source.file.source}: {len(rows)} observations of {', '.join(names)}; MJD and FLUXCAL are needed"
        )
    band_name = "FLT" if "FLT" in names else "BAND"
    if band_name not in names:
        raise Unreadable(f"{source.file.source}: VARLIST names neither FLT nor BAND")
    index = names.index(band_name)
    return make_light_curve(
        Columns(
            time=time,
            value=flux * FLUXCAL,
            error=None if error is None else error * FLUXCAL,
            band=np.array([row[index] for row in rows]),
            magnitudes=False,
            unit="nJy",
            system="mjd",
            identity={
                "source": source.file.source,
                "row": 0,
                "object_id": keys.get("SNID", source.name),
                **place(_number(keys, "RA"), _number(keys, "DECL", "DEC")),
            },
        )
    )


FORMAT = Format(
    name=NAME,
    record=LightCurve,
    description="SNANA text (.DAT): MJD, filter, FLUXCAL with zero point 27.5",
    sniff=_sniff,
    items=_items,
    entries=_entries,
)
