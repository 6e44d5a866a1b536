"""Alerts of stars that tell their number by their flux, as ZTF, ATLAS and LSST would send them."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro

NOON = 1_795_608_000_000  #: ms: 2026-11-25, 12:00 UTC.
NIGHT, NEXT = "2026-11-24", "2026-11-25"
_POINT = {"type": "record", "name": "Candidate", "fields": [
    {"name": "jd", "type": "double"}, {"name": "fid", "type": "int"}, {"name": "magpsf", "type": "float"},
    {"name": "sigmapsf", "type": "float"}, {"name": "isdiffpos", "type": "string"}, {"name": "ra", "type": "double"},
    {"name": "dec", "type": "double"}]}  # fmt: skip
ZTF = {"type": "record", "name": "ztf.alert", "fields": [
    {"name": "objectId", "type": "string"}, {"name": "candidate", "type": _POINT},
    {"name": "prv_candidates", "type": {"type": "array", "items": "Candidate"}}]}  # fmt: skip


def ztf(number: int, codec: str = "snappy", schema: dict[str, Any] = ZTF) -> bytes:
    """An alert that carries its schema; its object is ZTF<number>."""
    points = [
        {"jd": 2461370.5 + i, "fid": 1 + i % 2, "magpsf": 18.0 + 0.1 * (i % 5), "sigmapsf": 0.05, "isdiffpos": "t",
         "ra": 10.0 + 0.01 * number, "dec": -5.0, "extra": 1.5}
        for i in range(8)
    ]  # fmt: skip
    packet = {"objectId": f"ZTF{number}", "candidate": points[-1], "prv_candidates": points[:-1]}
    out = io.BytesIO()
    fastavro.writer(out, fastavro.parse_schema(schema), [packet], codec=codec)
    return out.getvalue()


def changed() -> dict[str, Any]:
    """The schema after a change in the middle of a stream: a column more."""
    schema = json.loads(json.dumps(ZTF))
    schema["fields"][1]["type"]["fields"].append({"name": "extra", "type": "double"})
    return dict(schema)


def lsst_schema(new: bool) -> dict[str, Any]:
    """A schema that messages name by number: with the old or the new names of its columns."""
    time, band, flux = ("midpointMjdTai", "band", "psfFlux") if new else ("midPointTai", "filterName", "psFlux")
    dec = "dec" if new else "decl"
    source = {"type": "record", "name": "DiaSource", "fields": [
        {"name": "diaSourceId", "type": "long"}, {"name": time, "type": "double"}, {"name": band, "type": "string"},
        {"name": flux, "type": "float"}, {"name": f"{flux}Err", "type": "float"}, {"name": "ra", "type": "double"},
        {"name": dec, "type": "double"}]}  # fmt: skip
    return {"type": "record", "name": "lsst.alert", "fields": [
        {"name": "diaSource", "type": source},
        {"name": "prvDiaSources", "type": ["null", {"type": "array", "items": "DiaSource"}]}]}  # fmt: skip


def lsst(number: int, schema_id: int, new: bool) -> bytes:
    """An alert behind the number of its schema, as Confluent's clients write it."""
    time, band, flux = ("midpointMjdTai", "band", "psfFlux") if new else ("midPointTai", "filterName", "psFlux")
    one = {"diaSourceId": number, time: 61370.0, band: "r", flux: 5000.0, f"{flux}Err": 50.0, "ra": 20.0,
           "dec" if new else "decl": 5.0}  # fmt: skip
    packet = {"diaSource": one, "prvDiaSources": [{**one, time: 61370.0 - i} for i in range(1, 8)]}
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(lsst_schema(new)), packet)
    return b"\x00" + schema_id.to_bytes(4, "big") + out.getvalue()
