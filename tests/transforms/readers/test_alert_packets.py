"""Alert packets: the same star in the packets of four surveys is the same flux; damaged ones are told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest

from transforms.attempt import Unreadable, Unusable
from transforms.flags import bits, decode
from transforms.readers import Source, formats, identify
from transforms.records import FileRef, LightCurve

FLUX, ERROR = 5000.0, 100.0  #: nJy.
MAGNITUDE = 31.4 - 2.5 * math.log10(FLUX)
MAGNITUDE_ERROR = 2.5 / math.log(10) * ERROR / FLUX
START = 60000.25


def kind(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """A schema whose every field may be null."""
    return {"type": "record", "name": name, "fields": [{"name": k, "type": ["null", v]} for k, v in fields.items()]}


ZTF_POINT = {"jd": "double", "fid": "int", "magpsf": "float", "sigmapsf": "float", "isdiffpos": "string",
             "ra": "double", "dec": "double", "nbad": "int"}  # fmt: skip


def ztf(points: Sequence[dict[str, Any]], name: str = "ZTF1") -> tuple[dict[str, Any], dict[str, Any]]:
    point = kind("ztf.alert.candidate", ZTF_POINT)
    schema = {
        "type": "record", "name": "ztf.alert",
        "fields": [
            {"name": "objectId", "type": "string"}, {"name": "candid", "type": "long"},
            {"name": "candidate", "type": point},
            {"name": "prv_candidates", "type": ["null", {"type": "array", "items": "ztf.alert.candidate"}]},
        ],
    }  # fmt: skip
    made = [
        {"jd": 2400000.5 + START + i, "fid": 2, "magpsf": MAGNITUDE, "sigmapsf": MAGNITUDE_ERROR, "isdiffpos": "t",
         "ra": 10.5, "dec": -20.25, "nbad": 0, **one}
        for i, one in enumerate(points)
    ]  # fmt: skip
    return schema, {"objectId": name, "candid": 7, "candidate": made[-1], "prv_candidates": made[:-1] or None}


def atlas() -> tuple[dict[str, Any], dict[str, Any]]:
    fields = {"mjd": "double", "filter": "string", "isdiffpos": "string", "RA": "double", "Dec": "double",
              "flux": "float", "Dflux": "float"}  # fmt: skip
    schema = kind("atlas.alert", {"objectId": "string", "candidate": kind("atlas.candidate", fields)})
    candidate = {"mjd": START, "filter": "o", "isdiffpos": "f", "RA": 10.5, "Dec": -20.25, "flux": FLUX / 1000,
                 "Dflux": -ERROR / 1000}  # fmt: skip
    return schema, {"objectId": "A1", "candidate": candidate}


def lsst(new: bool, unit: float = 1.0, name: str = "lsst.v10_0") -> tuple[dict[str, Any], dict[str, Any]]:
    time, band, flux, error, dec = (
        ("midpointMjdTai", "band", "psfFlux", "psfFluxErr", "dec") if new
        else ("midPointTai", "filterName", "psFlux", "psFluxErr", "decl")
    )  # fmt: skip
    fields = {time: "double", band: "string", flux: "float", error: "float", "ra": "double", dec: "double"}
    many = {"type": "array", "items": f"{name}.diaSource"}
    schema = {
        "type": "record", "name": f"{name}.alert",
        "fields": [
            {"name": "diaSource", "type": kind(f"{name}.diaSource", fields)},
            {"name": "prvDiaSources", "type": ["null", many]}, {"name": "prvDiaForcedSources", "type": ["null", many]},
            {"name": "diaObject", "type": ["null", kind("o", {"diaObjectId": "long", "ra": "double", dec: "double"})]},
        ],
    }  # fmt: skip

    def point(at: float) -> dict[str, Any]:
        return {time: at, band: "r", flux: FLUX / unit, error: ERROR / unit, "ra": 10.5, dec: -20.25}

    packet = {
        "diaSource": point(START + 2), "prvDiaSources": [point(START)],
        "prvDiaForcedSources": [point(START), point(START + 1)],
        "diaObject": {"diaObjectId": 12, "ra": 10.5, dec: -20.25},
    }  # fmt: skip
    return schema, packet


def write(path: Path, pair: tuple[dict[str, Any], dict[str, Any]], copies: int = 1, codec: str = "null") -> Path:
    schema, packet = pair
    with path.open("wb") as stream:
        fastavro.writer(stream, fastavro.parse_schema(schema), [packet] * copies, codec=codec, sync_interval=2000)
    return path


def load(path: Path) -> list[LightCurve]:
    with Source(FileRef(url=str(path), source=path.name)) as source:
        found = identify(source)
        assert found.record is LightCurve
        return [entry.load() for item in found.items(source) for entry in found.entries(source, item)]


def test_one_star_in_the_packets_of_all_surveys_is_one_flux(tmp_path: Path) -> None:
    snana = 10 ** (-0.4 * (27.5 - 31.4))
    packets = {
        "ztf": ztf([{}, {}, {}]), "atlas": atlas(), "new": lsst(True), "old": lsst(False, name="lsst.v7_4"),
        "elasticc": lsst(False, snana, "elasticc.v0_9"),
    }  # fmt: skip
    found = {name: load(write(tmp_path / f"{name}.avro", pair))[0] for name, pair in packets.items()}
    for name, star in found.items():
        np.testing.assert_allclose(np.abs(star.flux), FLUX, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(star.flux_err, ERROR, rtol=1e-4, err_msg=name)
        assert (star.unit, star.ra, star.dec) == ("nJy", 10.5, -20.25), name
        assert decode(star.flags) == ("DIFFERENCE_FLUX",), name
        np.testing.assert_allclose(star.time, START + np.arange(star.time.size), atol=1e-6, err_msg=name)
    assert {name: star.time.size for name, star in found.items()} == {
        "ztf": 3, "atlas": 1, "new": 3, "old": 3, "elasticc": 3,
    }, "a forced measurement of an exposure with a detection is not another"  # fmt: skip
    assert found["atlas"].flux[0] < 0 < found["ztf"].flux[0]
    assert {name: star.object_id for name, star in found.items()} == {
        "ztf": "ZTF1", "atlas": "A1", "new": "12", "old": "12", "elasticc": "12",
    }  # fmt: skip
    assert found["new"].time_scale == "tai"


def test_upper_limits_are_left_out_and_bad_pixels_are_marked(tmp_path: Path) -> None:
    points = [{"magpsf": None, "sigmapsf": None}, {"nbad": 2, "fid": 1}, {"isdiffpos": "0"}, {"isdiffpos": "1"}]
    (star,) = load(write(tmp_path / "a.avro", ztf(points)))
    assert star.band.tolist() == ["g", "r", "r"]
    assert star.quality.tolist() == [True, False, False]
    assert np.sign(star.flux).tolist() == [1, -1, 1]


@pytest.mark.parametrize("codec", ["null", "deflate", "snappy"])
def test_a_container_of_many_packets_is_read_in_parts(codec: str, tmp_path: Path) -> None:
    path = write(tmp_path / "many.avro", ztf([{}, {}]), 600, codec)
    with Source(FileRef(url=str(path), source="many.avro")) as source:
        reader = identify(source)
        items = list(reader.items(source))
        assert [(item.start, item.stop) for item in items] == [(0, 256), (256, 512), (512, 600)]
        rows = [[entry.row for entry in reader.entries(source, item)] for item in items]
    assert [row for part in rows for row in part] == list(range(600))
    assert reader is formats()["alert_packets"]


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "cut.avro", ztf([{}, {}]), 200)
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(Unreadable, match=r"cut\.avro: the Avro container is damaged"):
        load(path)
    with pytest.raises(Unusable, match=r"empty\.avro: an Avro container without a packet"):
        load(write(tmp_path / "empty.avro", ztf([{}]), 0))
    with pytest.raises(Unusable, match="the packet of 'ZTF1' holds no measurement"):
        load(write(tmp_path / "limit.avro", ztf([{"magpsf": None}])))
    schema = {"type": "record", "name": "log", "fields": [{"name": "line", "type": "string"}]}
    with pytest.raises(Unusable, match="an alert of no survey that is known; it holds line"):
        load(write(tmp_path / "log.avro", (schema, {"line": "x"})))
    odd = ztf([{"ra": 400.0, "dec": 99.0}])
    (star,) = load(write(tmp_path / "odd.avro", odd))
    assert (star.ra, star.dec) == (None, None)
    assert star.flags & bits("NO_POSITION")


def test_the_real_packets_of_four_surveys(data: Path) -> None:
    found: dict[str, list[LightCurve]] = {}
    for path in sorted((data / "alerts").rglob("*.avro")):
        found.setdefault(path.relative_to(data / "alerts").parts[1].split("_")[0], []).extend(load(path))
    assert {name: len(found[name]) for name in ("ZTF", "LSST", "ATLAS")} == {"ZTF": 61, "LSST": 46, "ATLAS": 8}
    stars = [star for some in found.values() for star in some]
    assert len(stars) >= 131
    for star in stars:
        assert star.unit == "nJy"
        assert star.ra is not None
        assert star.flags & bits("DIFFERENCE_FLUX")
        assert not star.flags & bits("UNSORTED")
        assert np.isfinite(star.flux[~star.quality]).all()
    # the packet states the magnitude of its detection
    for path in sorted((data / "alerts" / "alerce_samples" / "ZTF_samples").glob("*.avro"))[:20]:
        with path.open("rb") as stream:
            packet = next(fastavro.reader(stream))
        (star,) = load(path)
        at = int(np.argmin(np.abs(star.time - (packet["candidate"]["jd"] - 2400000.5))))
        assert 31.4 - 2.5 * np.log10(abs(star.flux[at])) == pytest.approx(packet["candidate"]["magpsf"], abs=1e-4)
