"""Alert packets in Avro containers: ZTF, LSST (schemas 3 to 11), ELAsTiCC, ATLAS; one packet is one light curve.

A packet holds what a difference image shows of one object, and its history: the flux is what the template lacks, and
may be negative. Upper limits are left out, as they are no measurement.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from transforms.attempt import Unusable
from transforms.light_curve import AB_NANOJANSKY
from transforms.readers.avro import MAGIC, count_records, read_records, schema_name
from transforms.readers.format import Entry, Format, Source
from transforms.readers.light_curve_record import Columns, make_light_curve
from transforms.readers.snana import FLUXCAL
from transforms.records import Item, LightCurve

NAME = "alert_packets"
PACKETS = 256  #: Of one item at most.
#: ZTF numbers its filters (Masci et al. 2019, PASP 131, 018003); the fourth is never used.
ZTF_BANDS = {1: "g", 2: "r", 3: "i"}
MICROJANSKY = 1000.0  #: nJy; ATLAS gives fluxes in microjansky (Tonry et al. 2018, PASP 130, 064505).
_POSITIVE, _NEGATIVE = ("t", "1", "true"), ("f", "0", "false")
#: What LSST called its columns in older schemas.
_TIMES, _BANDS = ("midpointMjdTai", "midPointTai"), ("band", "filterName")
_FLUXES, _ERRORS = ("psfFlux", "psFlux"), ("psfFluxErr", "psFluxErr")
_DECS = ("dec", "decl")
Packet = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement.

    Parameters
    ----------
    time : float
        In the packet's time system.
    flux, error : float
        nJy.
    band : str
        Filter.
    bad : bool
        True where pixels under it are bad.
    """

    time: float
    flux: float
    error: float
    band: str
    bad: bool = False


def _sniff(source: Source) -> bool:
    return source.head.startswith(MAGIC)


def _items(source: Source) -> list[Item]:
    count = count_records(source)
    if not count:
        raise Unusable(f"{source.file.source}: an Avro container without a packet")
    return [
        Item(file=source.file, format=NAME, start=i, stop=min(i + PACKETS, count)) for i in range(0, count, PACKETS)
    ]


def _entries(source: Source, item: Item) -> Iterator[Entry]:
    for row, packet, block in read_records(source, item.start, item.stop):
        load = partial(load_packet, packet, schema_name(block), source.file.source, row)
        yield Entry(row, load, _name_of(packet))


def _name_of(packet: Packet) -> str:
    """What the object is called, as far as it can be told without doubt."""
    if not isinstance(packet, Mapping):
        return ""
    if packet.get("objectId"):
        return str(packet["objectId"])
    for part, key in (("diaObject", "diaObjectId"), ("ssSource", "ssObjectId"), ("ssObject", "ssObjectId")):
        inside = packet.get(part)
        if isinstance(inside, Mapping) and inside.get(key):
            return str(inside[key])
    source = packet.get("diaSource")
    return str(source.get("diaSourceId", "")) if isinstance(source, Mapping) else ""


def load_packet(packet: Packet, schema: str, source: str, row: int) -> LightCurve:
    """Make the light curve of a packet.

    Parameters
    ----------
    packet : mapping
        Decoded.
    schema : str
        Name or namespace of its schema: ELAsTiCC has LSST's columns in other units.
    source : str
        File or topic that it came from.
    row : int
        Its place there.

    Returns
    -------
    LightCurve
        Difference flux in nJy, under DIFFERENCE_FLUX.

    Raises
    ------
    Unusable
        For a packet of no survey that is known, or without a measurement.
    """
    layout, points, where = _of_survey(packet, schema)
    there = [point for point in points if point is not None and math.isfinite(point.flux + point.time)]
    good = sorted(there, key=lambda point: point.time)  # the detection comes first in a packet, its history after it
    if not good:
        raise Unusable(f"{source}: the packet of {_name_of(packet)!r} holds no measurement")
    identity = {"source": source, "hdu": "", "row": row, "object_id": _name_of(packet), **where}
    return make_light_curve(
        Columns(
            time=np.array([point.time for point in good]),
            value=np.array([point.flux for point in good]),
            error=np.array([point.error for point in good]),
            band=np.array([point.band for point in good]),
            bad=np.array([point.bad for point in good]),
            magnitudes=False,
            unit="nJy",
            system=layout,
            difference=True,
            identity=identity,
        )
    )


def _of_survey(packet: Packet, schema: str) -> tuple[str, Iterable[Point | None], dict[str, float | None]]:
    """Time system, points and position of a packet of any survey."""
    candidate, dia = packet.get("candidate"), packet.get("diaSource")
    if isinstance(candidate, Mapping) and "jd" in candidate:
        history = [candidate, *(packet.get("prv_candidates") or ())]
        return "jd", map(_ztf, history), _place(candidate, "ra", ("dec",))
    if isinstance(candidate, Mapping) and "mjd" in candidate:
        return "mjd", [_atlas(candidate)], _place(candidate, "RA", ("Dec",))
    if isinstance(dia, Mapping):
        unit = FLUXCAL if "elasticc" in schema.lower() else 1.0
        detections = [_lsst(one, unit) for one in (dia, *(packet.get("prvDiaSources") or ()))]
        seen = {(point.time, point.band) for point in detections if point is not None}
        forced = [_lsst(one, unit) for one in packet.get("prvDiaForcedSources") or ()]
        # a detection and the forced measurement of the same exposure are one measurement
        more = [point for point in forced if point is not None and (point.time, point.band) not in seen]
        known = packet.get("diaObject")
        return "tai", [*detections, *more], _place(known if isinstance(known, Mapping) else dia, "ra", _DECS)
    raise Unusable(f"an alert of no survey that is known; it holds {', '.join(sorted(map(str, packet)))}")


def _place(part: Packet, ra: str, decs: Iterable[str]) -> dict[str, float | None]:
    pair = _number(part.get(ra)), _number(_first(part, decs))
    known = all(map(math.isfinite, pair)) and -90 <= pair[1] <= 90
    return {"ra": pair[0] % 360 if known else None, "dec": pair[1] if known else None}


def _first(part: Packet, names: Iterable[str]) -> Any:
    return next((part[name] for name in names if part.get(name) is not None), None)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _sign(value: Any) -> float:
    """Whether the object is brighter than the template, which surveys spell as they like."""
    text = str(value).strip().lower()
    return 1.0 if text in _POSITIVE else -1.0 if text in _NEGATIVE else math.nan


def _ztf(one: Packet) -> Point | None:
    magnitude, error = _number(one.get("magpsf")), _number(one.get("sigmapsf"))
    if not math.isfinite(magnitude):  # an upper limit
        return None
    flux = 10 ** (-0.4 * (magnitude - AB_NANOJANSKY))
    band = ZTF_BANDS.get(one.get("fid", 0), f"fid{one.get('fid')}")
    bad = (one.get("nbad") or 0) > 0
    return Point(
        _number(one.get("jd")), _sign(one.get("isdiffpos")) * flux, flux * error * math.log(10) / 2.5, band, bad
    )


def _atlas(one: Packet) -> Point | None:
    flux, error = (MICROJANSKY * abs(_number(one.get(name))) for name in ("flux", "Dflux"))
    return Point(_number(one.get("mjd")), _sign(one.get("isdiffpos")) * flux, error, str(one.get("filter", "")))


def _lsst(one: Packet, unit: float) -> Point | None:
    time, flux, error = (_number(_first(one, names)) for names in (_TIMES, _FLUXES, _ERRORS))
    return Point(time, unit * flux, unit * error, str(_first(one, _BANDS) or ""))


FORMAT = Format(
    name=NAME,
    record=LightCurve,
    description="Alert packets in Avro containers: ZTF, LSST (schemas 3 to 11), ELAsTiCC, ATLAS; difference flux of "
    "the detection and its history",
    sniff=_sniff,
    items=_items,
    entries=_entries,
)
