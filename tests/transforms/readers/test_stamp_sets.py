"""Arrays of stamps with a table of their objects."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from tests.transforms.readers.test_image_reader import ref, write
from transforms.attempt import Unreadable, Unusable
from transforms.crop import measure_cutout
from transforms.flags import decode
from transforms.readers import Source, identify
from transforms.readers.stamp_sets import STAMP_SETS

fits = pytest.importorskip("astropy.io.fits")
N, SIDE, NOISE = 5, 48, 2.0


def stamps(bands=1):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    light = 200 * np.exp(-(x**2 + y**2) / 18)
    flux = np.stack([np.stack([(1 + i + b) * light for b in range(bands)]) for i in range(N)])
    flux = (flux + 30 + rng.normal(0, NOISE, flux.shape)).astype(np.float32)
    return flux[:, 0] if bands == 1 else flux


def table(**columns):
    return fits.BinTableHDU.from_columns(
        [fits.Column(name, "12A" if name == "name" else "D", array=values) for name, values in columns.items()]
    )


def objects(**more):
    return table(name=np.array([f"galaxy {i}" for i in range(N)]), RA=150.0 + np.arange(N), DEC=np.zeros(N), **more)


def load(path):
    with Source(ref(path)) as source:
        assert identify(source) is STAMP_SETS
        return [entry.load() for item in STAMP_SETS.items(source) for entry in STAMP_SETS.entries(source, item)]


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("packed", [False, True])
def test_each_plane_is_an_object_of_the_table(tmp_path, bands, packed):
    array = fits.ImageHDU(stamps(bands))
    array.header.update(MAGZERO=31.4, PIXSCALE=0.262, BANDS="grz" if bands == 3 else "r")
    path = write(tmp_path / "set.fits", fits.PrimaryHDU(), array, objects())
    if packed:
        packed_path = tmp_path / "set.fits.gz"
        packed_path.write_bytes(gzip.compress(path.read_bytes()))
        path = packed_path
    found = load(path)
    assert [c.object_id for c in found] == [f"galaxy {i}" for i in range(N)]
    assert [(c.ra, c.dec, c.row) for c in found] == [(150.0 + i, 0.0, i) for i in range(N)]
    assert found[0].bands == (("g", "r", "z") if bands == 3 else ("r",))
    assert (found[0].unit, found[0].pixel_scale) == ("nJy", 0.262)
    assert np.array_equal(found[2].flux, stamps(bands)[2].reshape(bands, SIDE, SIDE))
    assert decode(found[0].flags) == ("NO_TIME",)
    measured = [measure_cutout(c, {}).measured["flux_kron"] for c in found]
    assert np.array(measured) / measured[0] == pytest.approx(1 + np.arange(N) / (1 + (bands - 1) / 2), rel=0.05)


def test_noise_and_mask_of_the_same_shape_are_used(tmp_path):
    flux = stamps()
    bad = np.zeros(flux.shape, np.int16)
    bad[1, 4, 5] = 1
    noise = np.full(flux.shape, NOISE, np.float32)
    hdus = [fits.ImageHDU(plane, name=name) for name, plane in (("SCI", flux), ("ERR", noise), ("DQ", bad))]
    found = load(write(tmp_path / "set.fits", fits.PrimaryHDU(), *hdus, table(id=np.arange(N))))
    assert np.unique(found[0].ivar) == pytest.approx([0.25])
    assert [int(c.mask.sum()) for c in found] == [0, 1, 0, 0, 0]
    assert abs(np.median(found[0].flux[0, :6])) < 1  # above the sky of its border
    assert "NO_POSITION" in decode(found[0].flags)


@pytest.mark.parametrize(
    "hdus",
    [
        lambda: [fits.PrimaryHDU(stamps())],
        lambda: [fits.PrimaryHDU(stamps()), table(TIME=np.arange(N))],
        lambda: [fits.PrimaryHDU(stamps()), table(id=np.arange(N + 1))],
        lambda: [fits.PrimaryHDU(stamps(), fits.Header({"CTYPE3": "WAVE"})), table(id=np.arange(N))],
    ],
)
def test_what_may_be_anything_is_no_set_of_stamps(tmp_path, hdus):
    with Source(ref(write(tmp_path / "cube.fits", *hdus()))) as source:
        assert not STAMP_SETS.sniff(source)
        with pytest.raises(Unusable):
            STAMP_SETS.items(source)


def test_unsigned_integers_and_fractions_of_a_unit(tmp_path):
    counts = np.rint(stamps()).astype(np.uint16)
    array = fits.ImageHDU(counts)
    array.header["BUNIT"] = "nanomaggy"
    found = load(write(tmp_path / "set.fits", fits.PrimaryHDU(), array, objects()))
    assert np.array_equal(found[4].flux[0], counts[4].astype(np.float32) * np.float32(3631))
    assert found[4].zero_point == 31.4


def test_an_empty_stamp_is_refused_alone_and_a_cut_file_as_a_whole(tmp_path):
    flux = stamps()
    flux[3] = np.nan
    path = write(tmp_path / "set.fits", fits.PrimaryHDU(), objects(), fits.ImageHDU(flux))
    with Source(ref(path)) as source:
        entries = [entry for item in STAMP_SETS.items(source) for entry in STAMP_SETS.entries(source, item)]
        assert entries[2].load().object_id == "galaxy 2"
        with pytest.raises(Unusable, match="all 2304 pixels of stamp 3"):
            entries[3].load()
    path.write_bytes(path.read_bytes()[:-5760])
    with Source(ref(path)) as source, pytest.raises(Unreadable, match="cut"):
        STAMP_SETS.items(source)
