"""Target lists of every kind, their units, and what is wrong with some."""

from __future__ import annotations

import io

import numpy as np
import pytest

from transforms.attempt import Unreadable, Unusable
from transforms.readers.targets import read_targets


@pytest.mark.parametrize("kind", ["csv", "ecsv", "fits", "votable", "parquet"])
def test_target_lists_of_every_kind_agree(tmp_path, kind):
    from astropy.table import Table

    table = Table({"ObjID": ["a", "b"], "RAJ2000": [10.5, 359.0], "DEJ2000": [-3.25, 89.0], "mag": [1.0, 2.0]})
    path = tmp_path / f"targets.{kind}"
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({name: table[name].tolist() for name in table.colnames}), path)
    else:
        table.write(path, format={"csv": "ascii.csv", "ecsv": "ascii.ecsv"}.get(kind, kind))
    targets = read_targets(str(path))
    assert list(targets) == [("a", 10.5, -3.25), ("b", 359.0, 89.0)]
    assert targets[1] == ("b", 359.0, 89.0)


@pytest.mark.parametrize("kind", ["ascii.ecsv", "fits", "votable"])
@pytest.mark.parametrize(
    ("ra", "dec", "units"),
    [
        (2.5, -0.5, ("rad", "rad")),
        (9.5492965855, -1718.873385, ("h", "arcmin")),
        (143.239448783, -28.6478897565, ("deg", "deg")),
        ("09:32:57.4677", "-28 38 52.4031", (None, None)),
        ("9h32m57.4677s", "-28d38m52.4031s", (None, None)),
    ],
)
def test_units_of_a_target_list_are_honoured(tmp_path, kind, ra, dec, units):
    from astropy.table import Column, Table

    table = Table([Column(["a"], "id"), Column([ra], "ra", unit=units[0]), Column([dec], "dec", unit=units[1])])
    table.write(tmp_path / "t.x", format=kind)
    ((_, ra, dec),) = read_targets(str(tmp_path / "t.x"))
    assert (ra, dec) == (pytest.approx(143.239448783, abs=1e-7), pytest.approx(-28.6478897565, abs=1e-7))


def test_a_unit_that_is_no_angle_is_refused(tmp_path):
    from astropy.table import Column, Table

    table = Table([Column(["a"], "id"), Column([1.0], "ra", unit="pix"), Column([2.0], "dec", unit="Degrees")])
    table.write(tmp_path / "t.ecsv", format="ascii.ecsv")
    with pytest.raises(Unusable, match=r"column 'ra' does not hold degrees: .*pix"):
        read_targets(str(tmp_path / "t.ecsv"))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("id,ra\n1,2\n", Unusable, "no column for the declination: it has id, ra"),
        ("id,ra,dec\n1,2,95\n", Unusable, "row 0 is not on the sky .*dec = 95"),
        ("id,ra,dec\n1,2,3\n1,5,6\n", Unusable, "identifier '1' stands 2 times"),
        ("id,ra,dec\n1,x,3\n", Unusable, "column 'ra' does not hold degrees"),
        ("", Unreadable, "empty"),
    ],
)
def test_bad_target_lists(tmp_path, text, error, message):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(error, match=message):
        read_targets(str(path))


def test_one_real_catalogue_in_four_formats(data):
    folder = data / "images_fits" / "hsc_stars"
    names = ("star_cat_correct.csv", "star_cat_correct.fits", "star_cat_correct.pq", "star_cat_correct.votable")
    first, *others = (read_targets(str(folder / name)) for name in names)
    assert len(first) > 5
    for other in others:
        assert len(other) == len(first)
        assert np.allclose(other.ra, first.ra)
        assert other.object_id.tolist() == first.object_id.tolist()


def test_compressed_target_list(tmp_path):
    import gzip

    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(io.BytesIO(b"name,ra,dec\nM 13,250.42,36.46\n").read()))
    assert list(read_targets(str(path))) == [("M 13", 250.42, 36.46)]
