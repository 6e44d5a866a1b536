"""What astronomers open the catalog with: LSDB, hats, DuckDB, pandas, polars, astropy."""

from __future__ import annotations

import logging
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io.votable import ucd
from astropy.table import Table

from pipeline.catalog import MARGIN_ARCSEC
from pipeline.commit import commit
from pipeline.ledger import INPUT_COLUMNS, Ledger
from pipeline.sky import healpix_29, margins, pixels
from pipeline.sources import Inputs
from pipeline.verify import verify
from tests.pipeline.nights import file, rows, stage, stages
from transforms.columns import IDENTITY, PROVENANCE, REJECTS

NIGHTS = ("2026-11-24", "2026-11-25")
SEPARATION = 3.0  # arcsec between an object and its partner of the other night
LONG = "spectra/" + "x" * 90 + ".fits"


def scattered(night: str, n: int = 60) -> list[dict]:
    return [row | {"object_id": f"{night}-{i}"} for i, row in enumerate(rows(f"wide-{night}", n, night=night, ra=40.0))]


def at_border(night: str, n: int = 40) -> list[dict]:
    """Pairs on both sides of the border between two pixels of order 3, one of each pair in each night."""
    made = rows(LONG if night == NIGHTS[0] else "border", n, night=night)
    for i, row in enumerate(made):
        ra = 45.0 + 0.05 * (i + 1)  # along a line of equal declination, stepping over to the border below
        row["ra"], row["dec"] = ra, border_dec(ra) + (1 if night == NIGHTS[0] else -1) * SEPARATION / 2 / 3600
        row["object_id"] = f"pair-{i}"
    return made


def border_dec(ra: float) -> float:
    """Declination near the equator at which the pixel of order 3 changes, by bisection."""

    def pixel(dec: float) -> int:
        return int(pixels(healpix_29(np.array([ra]), np.array([dec])), 3)[0])

    low, high = -2.0, 3.5
    while high - low > 1e-8:
        middle = (low + high) / 2
        low, high = (middle, high) if pixel(middle) == pixel(-2.0) else (low, middle)
    return (low + high) / 2


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("catalog")
    for number, night in enumerate(NIGHTS):
        run_id = f"{night}-{number:012x}"
        made = scattered(night) + at_border(night) + rows(f"lost-{night}", 4, night=night, ra=None)
        fields = {"night": night, "versions": {"toy": "v1"}, "order": 3, "stages": stages(3, len(made), 0)}
        names = sorted({row["source"] for row in made})
        commit(str(root), run_id, stage(str(root), run_id, made), fields, Inputs(tuple(file(n) for n in names)))
    assert verify(str(root)) == []
    return root


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="(dask|distributed|lsdb|hats).*")
    yield
    root.setLevel(before)


def lsdb_compute(frame):
    import dask

    with dask.config.set(scheduler="synchronous"):
        return frame.compute()


def test_hats_finds_it_valid(catalog) -> None:
    hats = pytest.importorskip("hats")
    from hats.io.validation import is_valid_catalog

    for path in ("toy", "toy/toy", "toy/toy_margin_10arcs"):
        assert is_valid_catalog(str(catalog / path), strict=True), path
    schema = hats.read_hats(catalog / "toy" / "toy").schema
    assert schema.field("logg").metadata[b"unit"] == b"dex(cm / s2)"


def test_lsdb_opens_and_cuts_a_cone(catalog) -> None:
    lsdb = pytest.importorskip("lsdb")
    opened = lsdb.open_catalog(str(catalog / "toy"))
    assert opened.margin is not None
    assert len(opened) == 2 * (60 + 40)
    everything = lsdb_compute(opened)
    assert len(everything) == 2 * (60 + 40)
    assert everything.index.name == "_healpix_29"
    there = lsdb_compute(lsdb.open_catalog(str(catalog / "toy")).cone_search(ra=40, dec=0, radius_arcsec=3 * 3600))
    sky = SkyCoord(everything["ra"].to_numpy(float), everything["dec"].to_numpy(float), unit="deg")
    inside = sky.separation(SkyCoord(40, 0, unit="deg")) < 3 * u.deg
    assert 0 < inside.sum() == len(there)


@pytest.mark.parametrize("with_margin", [True, False])
def test_lsdb_finds_every_pair_over_a_pixel_border(catalog, with_margin) -> None:
    lsdb = pytest.importorskip("lsdb")
    left = lsdb.open_catalog(str(catalog / "toy"), filters=[("night", "==", NIGHTS[0])])
    path = catalog / "toy" if with_margin else catalog / "toy" / "toy"
    right = lsdb.open_catalog(str(path), filters=[("night", "==", NIGHTS[1])])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = lsdb_compute(left.crossmatch(right, radius_arcsec=5, suffixes=("_a", "_b")))
    pairs = found[found["object_id_a"].str.startswith("pair")]
    assert (pairs["object_id_a"] == pairs["object_id_b"]).all()
    assert len(pairs) == (40 if with_margin else 0)


def test_margins_hold_every_row_within_the_threshold() -> None:
    rng = np.random.default_rng(5)
    ra, dec = rng.uniform(44.99, 45.01, 3000), rng.uniform(-0.01, 0.01, 3000)
    index = healpix_29(ra, dec)
    own, given = pixels(index, 3), set(zip(*(a.tolist() for a in margins(index, 3)), strict=True))
    sky = SkyCoord(ra, dec, unit="deg")
    one, other, _, _ = sky.search_around_sky(sky, MARGIN_ARCSEC * u.arcsec)
    across = own[one] != own[other]
    assert across.sum() > 50
    assert {(a, own[b]) for a, b in zip(one[across].tolist(), other[across].tolist(), strict=True)} <= given
    assert all(own[row] != pixel for row, pixel in given)


def test_margins_at_the_poles_and_at_ra_zero() -> None:
    ra = np.array([0.0, 360.0, 90.0, 0.001, 123.0, 200.0])
    dec = np.array([0.0, 0.0, 0.0, 89.9999, -90.0, 90.0])
    index = healpix_29(ra, dec)
    assert index[0] == index[1]
    rows_, near = margins(index, 3)
    assert {len(near[rows_ == row]) for row in (4, 5)} <= {2, 3}
    assert (near >= 0).all()
    assert (near < 768).all()


def test_duckdb_reads_and_prunes(catalog) -> None:
    duckdb = pytest.importorskip("duckdb")
    files = f"read_parquet('{catalog}/toy/toy/dataset/*/*/*/*.parquet', hive_partitioning=true)"
    assert duckdb.sql(f"select count(*) from {files}").fetchall() == [(200,)]
    pixel = next(f.pixel for r in Ledger(str(catalog)).runs() for f in r.files if f.kind == "primary")
    wanted = sum(
        f.rows for r in Ledger(str(catalog)).runs() for f in r.files if f.kind == "primary" and f.pixel == pixel
    )
    assert duckdb.sql(f"select count(*) from {files} where Npix = {pixel}").fetchall() == [(wanted,)]
    unplaced = duckdb.sql(f"select count(*), count(ra) from '{catalog}/toy/unplaced/*.parquet'").fetchall()
    assert unplaced == [(8, 0)]


def test_pandas_reads_the_folder(catalog) -> None:
    import pandas as pd

    frame = pd.read_parquet(catalog / "toy" / "toy" / "dataset")
    assert len(frame) == 200
    assert {"Norder", "Dir", "Npix", "teff", "night"} <= set(frame.columns)
    assert frame["flags"].dtype == "int64"
    assert frame["logg"].isna().sum() == sum(r["logg"] is None for n in NIGHTS for r in scattered(n) + at_border(n))


def test_polars_reads_a_glob(catalog) -> None:
    polars = pytest.importorskip("polars")
    frame = polars.read_parquet(f"{catalog}/toy/toy/dataset/**/*.parquet", hive_partitioning=True)
    assert frame.height == 200
    assert frame["teff"].null_count() == 0
    assert frame["kind"].null_count() == 100


def one_file(catalog: Path) -> Path:
    """The largest file that holds nulls and the long source."""
    files = [f for r in Ledger(str(catalog)).runs() for f in r.files if f.kind == "primary"]
    held = [f for f in files if LONG in Table.read(catalog / f.path, format="parquet")["source"]]
    return catalog / max(held, key=lambda f: f.rows).path


@pytest.mark.parametrize("column", [*IDENTITY, *PROVENANCE, *REJECTS, *INPUT_COLUMNS], ids=lambda column: column.name)
def test_ucds_are_words_of_the_ivoa(column) -> None:
    ucd.parse_ucd(column.ucd, check_controlled_vocabulary=True)


@pytest.mark.parametrize("form", ["parquet", "parquet.votable"])
def test_astropy_reads_units_ucds_and_descriptions(catalog, form) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = Table.read(one_file(catalog), format=form)
    assert table["teff"].unit == u.K
    assert table["ra"].unit == u.deg
    assert u.Unit(table["logg"].unit) == u.dex(u.cm / u.s**2)
    assert table["logg"].description == "Surface gravity; <log10> & more"
    assert table["teff"].meta["ucd"] == "phys.temperature.effective"
    assert table["flags"].dtype == np.int64
    assert LONG in [str(value) for value in table["source"]]  # nothing is cut at 64 bytes


def test_astropy_takes_a_null_for_missing(catalog) -> None:
    table = Table.read(one_file(catalog), format="parquet")
    assert 0 < np.ma.count_masked(np.ma.masked_invalid(np.ma.asarray(table["logg"]))) < len(table)


def test_stilts_accepts_the_votable(catalog, tmp_path) -> None:
    if shutil.which("stilts") is None:
        pytest.skip("stilts is not installed")
    import pyarrow.parquet as pq

    document = tmp_path / "table.vot"
    document.write_bytes(pq.read_metadata(one_file(catalog)).metadata[b"IVOA.VOTable-Parquet.content"])
    done = subprocess.run(["stilts", "votlint", str(document)], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_astropy_finds_the_votable_right(catalog) -> None:
    import io

    import pyarrow.parquet as pq
    from astropy.io import votable

    content = pq.read_metadata(one_file(catalog)).metadata[b"IVOA.VOTable-Parquet.content"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*W50.*dex")  # VOUnits knows no dex; astropy reads it all the same
        parsed = votable.parse(io.BytesIO(content), verify="warn")
    fields = {field.name: field for field in parsed.get_first_table().fields}
    assert fields["source"].arraysize == "128"
    assert fields["object_id"].arraysize == "64"
    assert (fields["teff"].datatype, fields["flags"].datatype) == ("float", "long")
