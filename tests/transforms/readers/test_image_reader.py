"""FITS images of every kind, whole and damaged, with what belongs to them."""

from __future__ import annotations

import bz2
import gzip

import numpy as np
import pytest

from transforms.attempt import NoReader, Unreadable, Unusable
from transforms.flags import decode
from transforms.readers import Source, images
from transforms.readers.images import FORMATS
from transforms.records import FileRef, Image
from transforms.simulate.image_files import write_field
from transforms.simulate.images import simulate_field

fits = pytest.importorskip("astropy.io.fits")
COMPRESSIONS = ("RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1", "PLIO_1")


def ref(path) -> FileRef:
    return FileRef(url=str(path), source=path.name)


def load(path, **options) -> list[Image]:
    """All images of a file; the first error is raised."""
    with Source(ref(path), options) as source:
        kind = next((f for f in FORMATS if f.sniff(source)), None)
        if kind is None:
            raise NoReader(path.name)
        return [entry.load() for item in kind.items(source) for entry in kind.entries(source, item)]


def write(path, *hdus):
    fits.HDUList(list(hdus)).writeto(path)
    return path


@pytest.fixture(scope="module")
def field():
    return simulate_field(np.random.default_rng(3), (96, 128), n=5)[0]


@pytest.fixture
def counts(field):
    return np.clip(np.rint(field["flux"]), 0, 30000).astype(np.int16)


@pytest.mark.parametrize("dtype", ["u1", ">i2", "<i4", ">u2", ">f4", "<f8"])
def test_all_pixel_types_become_native_float(tmp_path, counts, dtype):
    plane = np.clip(counts, 0, 200).astype(dtype)
    (image,) = load(write(tmp_path / "a.fits", fits.PrimaryHDU(plane)))
    assert image.flux.dtype == np.float32
    assert image.flux.dtype.isnative
    assert image.flux.flags.c_contiguous
    assert np.array_equal(image.flux, plane.astype(np.float32))


@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_each_compression_gives_the_same_pixels(tmp_path, counts, kind):
    hdu = fits.CompImageHDU(counts, compression_type=kind)
    (image,) = load(write(tmp_path / "a.fits.fz", fits.PrimaryHDU(), hdu))
    assert image.hdu == "1"
    assert np.array_equal(image.flux, counts.astype(np.float32))


@pytest.mark.parametrize("kind", ["RICE_1", "GZIP_2"])
def test_compressed_unsigned_integers(tmp_path, counts, kind):
    plane = counts.astype(np.uint16) + 30000
    hdu = fits.CompImageHDU(plane, compression_type=kind)
    (image,) = load(write(tmp_path / "a.fits.fz", fits.PrimaryHDU(), hdu))
    assert np.array_equal(image.flux, plane.astype(np.float32))


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_packed_files(tmp_path, counts, ending, pack):
    plain = write(tmp_path / "a.fits", fits.PrimaryHDU(counts))
    packed = tmp_path / f"b.fits{ending}"
    packed.write_bytes(pack(plain.read_bytes()))
    assert np.array_equal(load(packed)[0].flux, load(plain)[0].flux)


def test_scale_and_blank(tmp_path):
    stored = np.arange(400, dtype=np.int16).reshape(20, 20)
    hdu = fits.PrimaryHDU(stored)
    hdu.header["BLANK"] = 7
    path = write(tmp_path / "a.fits", hdu)
    with fits.open(path, mode="update", do_not_scale_image_data=True) as hdus:
        hdus[0].header["BSCALE"], hdus[0].header["BZERO"] = 0.5, 100.0
    (image,) = load(path)
    assert image.mask.sum() == 1
    assert np.isnan(image.flux[0, 7])
    assert image.flux[1, 0] == pytest.approx(110)


def test_nan_is_masked_and_a_plane_of_nan_is_refused(tmp_path, field):
    flux = field["flux"].copy()
    flux[3, 4] = np.nan
    (image,) = load(write(tmp_path / "a.fits", fits.PrimaryHDU(flux)))
    assert image.mask.sum() == 1
    assert image.mask[3, 4]
    with pytest.raises(Unusable, match="all 400 pixels of HDU 0"):
        load(write(tmp_path / "b.fits", fits.PrimaryHDU(np.full((20, 20), np.nan, np.float32))))


@pytest.mark.parametrize("layout", ["plain", "compressed", "triple"])
def test_three_layouts_of_one_exposure_agree(tmp_path, field, layout):
    paths = write_field(tmp_path, "c4d_261124_031500", field, layout)
    (image,) = load(paths[0])
    factor = 10 ** (0.4 * (31.4 - 30.0))
    good = field["mask"] == 0
    assert image.unit == "nJy"
    assert image.zero_point == 31.4
    assert np.abs(image.flux - field["flux"] * factor)[good].max() < 0.6 * factor + 1
    assert (image.band, image.exptime, image.time_scale) == ("r", 90.0, "utc")
    assert image.mjd == pytest.approx(61000.2 + 45 / 86400)
    assert image.gain == pytest.approx(4 / factor)
    assert image.psf_fwhm == 4.0
    if layout != "plain":
        assert np.array_equal(image.mask, field["mask"] > 0)
        assert image.ivar[good] == pytest.approx(field["weight"][good] / factor**2, rel=1e-4)
    if layout == "triple":
        for companion in paths[1:]:
            assert load(companion) == []


def test_companion_without_its_image_is_an_error(tmp_path, field):
    paths = write_field(tmp_path, "x", field)
    paths[0].unlink()
    with pytest.raises(Unusable, match="_ooi_"):
        load(paths[1])


def test_weight_of_another_shape_is_an_error(tmp_path, field):
    write(tmp_path / "a.fits", fits.PrimaryHDU(field["flux"]))
    write(tmp_path / "a_weight.fits", fits.PrimaryHDU(field["weight"][:-1]))
    with pytest.raises(Unusable, match=r"a_weight.fits has planes \[\(95, 128\)\]"):
        load(tmp_path / "a.fits")


def test_variance_mask_and_sigma_beside_the_image(tmp_path, field):
    write(tmp_path / "a.fits", fits.PrimaryHDU(field["flux"]))
    write(tmp_path / "a_sigma.fits", fits.PrimaryHDU(np.full(field["flux"].shape, 4.0, np.float32)))
    write(tmp_path / "a_mask.fits", fits.PrimaryHDU((field["mask"] > 0).astype(np.uint8)))
    (image,) = load(tmp_path / "a.fits")
    assert np.unique(image.ivar) == pytest.approx([1 / 16])
    assert np.array_equal(image.mask, field["mask"] > 0)


def test_every_image_extension_is_an_item_and_bad_ones_are_rejected_alone(tmp_path, counts):
    path = write(
        tmp_path / "a.fits",
        fits.PrimaryHDU(),
        fits.ImageHDU(counts, name="A"),
        fits.ImageHDU(),
        fits.ImageHDU(np.zeros((30, 40, 50), np.float32), name="CUBE"),
        fits.BinTableHDU.from_columns([fits.Column("x", "E", array=[1.0])]),
        fits.ImageHDU(counts, name="B"),
        fits.ImageHDU(np.zeros((3, 90), np.float32), name="THIN"),
    )
    with Source(ref(path)) as source:
        kind = next(f for f in FORMATS if f.sniff(source))
        items = kind.items(source)
        assert [item.hdu for item in items] == ["1", "3", "5", "6"]
        loads = [next(iter(kind.entries(source, item))).load for item in items]
        assert np.array_equal(loads[0]().flux, loads[2]().flux)
        with pytest.raises(Unusable, match="cube of 50 x 40 x 30"):
            loads[1]()
        with pytest.raises(Unusable, match="90 x 3 pixels"):
            loads[3]()


def test_hst_and_lsst_layouts(tmp_path, field):
    flux, mask = field["flux"], np.where(field["mask"] == 3, 256, 0).astype(np.int16)
    mask[10, 10] = 16
    error = np.full(flux.shape, 5, np.float32)
    hst = (fits.ImageHDU(flux, name="SCI"), fits.ImageHDU(error, name="ERR"), fits.ImageHDU(mask, name="DQ"))
    (image,) = load(write(tmp_path / "hst.fits", fits.PrimaryHDU(), *hst))
    assert np.unique(image.ivar) == pytest.approx([1 / 25])
    assert image.mask[10, 10]
    bits = np.zeros(flux.shape, np.int32)
    bits[5, 5], bits[6, 6], bits[7, 7] = 1 << 5, 1 << 1, 1 << 3
    planes = [fits.ImageHDU(p) for p in (flux, bits, error**2)]
    for hdu, kind in zip(planes, ("IMAGE", "MASK", "VARIANCE"), strict=True):
        hdu.header["EXTTYPE"] = kind
    (image,) = load(write(tmp_path / "lsst.fits", fits.PrimaryHDU(), *planes))
    assert image.mask.sum() == 2  # the bit of a detected pixel does not make it bad
    assert image.saturated.sum() == 1
    assert np.unique(image.ivar) == pytest.approx([1 / 25])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: [fits.PrimaryHDU()], "no HDU of bad.fits holds data"),
        (lambda: [fits.PrimaryHDU(np.zeros((7, 10, 11), np.int32))], "cube of 11 x 10 x 7"),
        (lambda: [fits.PrimaryHDU(np.zeros((1, 1), np.int32))], "1 x 1 pixels"),
        (
            lambda: [
                fits.GroupsHDU(fits.GroupData(np.zeros((4, 1, 2)), parnames=["U"], pardata=[np.zeros(4)], bitpix=-32))
            ],
            "random groups",
        ),
    ],
)
def test_what_is_no_image_is_refused_with_its_shape(tmp_path, make, message):
    with pytest.raises(Unusable, match=message):
        load(write(tmp_path / "bad.fits", *make()))


def test_table_alone_is_left_to_others(tmp_path):
    table = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=[1.0])])
    with pytest.raises(NoReader):
        load(write(tmp_path / "t.fits", fits.PrimaryHDU(), table))


@pytest.mark.parametrize("kept", [0.97, 0.5])
def test_truncated_file(tmp_path, counts, kept):
    path = write(tmp_path / "a.fits", fits.PrimaryHDU(np.tile(counts, (4, 1))))
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size) - 2880])
    with pytest.raises(Unreadable, match="cut short: HDU 0 ends at byte"):
        load(path)


@pytest.mark.parametrize("where", ["data", "header"])
def test_checksums(tmp_path, field, where):
    (path,) = write_field(tmp_path, "a", field, "plain")
    assert len(load(path)) == 1
    data = bytearray(path.read_bytes())
    at = len(data) - 4000 if where == "data" else data.index(b"EXPTIME =") + 28
    data[at] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(Unreadable, match="DATASUM is" if where == "data" else "CHECKSUM is"):
        load(path)
    assert len(load(path, checksums=False)) == 1


def test_checksum_of_compressed_and_packed_files(tmp_path, field):
    (path,) = write_field(tmp_path, "a", field, "compressed")
    packed = tmp_path / "b.fits.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert len(load(packed)) == 1
    data = bytearray(path.read_bytes())
    with fits.open(path) as hdus:
        data[hdus.fileinfo(1)["datLoc"] + 3000] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(Unreadable, match="DATASUM is"):
        load(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_large_planes_are_read_in_tiles_that_join(tmp_path, monkeypatch, compressed):
    monkeypatch.setattr(images, "tiles", lambda ny, nx: iter([(0, 60, 0, 70), (0, 60, 30, 100), (20, 80, 0, 100)]))
    plane = np.arange(8000, dtype=np.float32).reshape(80, 100)
    hdus = [fits.PrimaryHDU(), fits.CompImageHDU(plane, quantize_level=0, compression_type="GZIP_2")]
    path = write(tmp_path / "a.fits", *(hdus if compressed else [fits.PrimaryHDU(plane)]))
    found = load(path)
    assert [image.row for image in found] == [0, 1, 2]
    for image in found:
        y, x = image.origin
        assert np.array_equal(image.flux, plane[y : y + image.flux.shape[0], x : x + image.flux.shape[1]])


def test_image_without_wcs_is_flagged(tmp_path, counts):
    (image,) = load(write(tmp_path / "a.fits", fits.PrimaryHDU(counts)))
    assert image.wcs is None
    assert {"NO_WCS", "NO_POSITION", "NO_TIME", "UNCALIBRATED"} <= set(decode(image.flags))


def test_name_with_spaces_and_letters_of_other_alphabets(tmp_path, counts):
    folder = tmp_path / "nuit d'été 夜"
    folder.mkdir()
    assert len(load(write(folder / "my image é.fits", fits.PrimaryHDU(counts)))) == 1


def test_real_compressions_agree(data):
    folder = (
        data / "images_fits" / "astropy_tests" / "astropy" / "io" / "fits" / "hdu" / "compressed" / "tests" / "data"
    )
    plain = load(folder / "m13.fits")[0]
    for kind in ("gzip", "plio", "rice"):
        assert np.array_equal(load(folder / f"m13_{kind}.fits")[0].flux, plain.flux)
    lossy = load(folder / "m13_hcomp.fits")[0]
    assert np.abs(lossy.flux - plain.flux).max() <= 2


def test_real_decam_exposure_with_weight_and_codes(data):
    (path,) = (data / "images_fits" / "legacypipe" / "testcase4").rglob("*_ooi_*.fits")
    (image,) = load(path)
    assert image.flux.shape == (251, 245)
    assert (image.band, image.unit, image.hdu) == ("z", "nJy", "1")
    assert image.psf_fwhm == pytest.approx(3.691442)
    assert np.array_equal(image.mask, image.ivar <= 0)
    assert image.gain * 10 ** (0.4 * (31.4 - 29.915)) == pytest.approx(3.8767, abs=1e-3)
    assert image.mjd == pytest.approx(57828.26285591 + 53.5 / 86400)


def test_real_damaged_and_odd_files(data):
    folder = data / "images_fits" / "astropy_tests" / "astropy" / "io" / "fits" / "tests" / "data"
    assert len(load(folder / "checksum.fits")) == 1
    with pytest.raises(Unreadable, match="DATASUM is 3949466131, the data sum to 3949456131"):
        load(folder / "checksum_false.fits")
    with pytest.raises(Unreadable, match=r"Unix compress"):
        load(folder / "lzw.fits.Z")
    with pytest.raises(Unusable, match="LAMBDA, ANGLE"):
        load(folder / "o4sp040b0_raw.fits")
