"""From an image to its sources: injection, masks, seams, targets."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from transforms.attempt import Unusable
from transforms.detect import COLUMNS, measure_image
from transforms.flags import NAMES, decode
from transforms.measure import columns
from transforms.numerics.tiles import core_of, tiles
from transforms.records import Cutout, Image
from transforms.simulate.images import Camera, simulate_field


@pytest.fixture(autouse=True)
def without_morphology(monkeypatch):
    """Its own tests cover it; here it would be most of the time."""
    monkeypatch.setattr("transforms.detect.measure_morphology", lambda cutout: {})


def image_of(field, **changes) -> Image:
    from astropy.io import fits
    from astropy.wcs import WCS

    camera, mask = field["camera"], field["mask"] > 0
    saturated = np.isin(field["mask"], (3, 4))
    record = Image(
        source="field.fits",
        hdu="1",
        mjd=61000.0,
        time_scale="utc",
        flux=field["flux"],
        ivar=np.where(mask, 0, field["weight"]).astype(np.float32),
        mask=mask,
        saturated=saturated,
        wcs=WCS(fits.Header(list(field["header"].items()))),
        core=(0, mask.shape[0], 0, mask.shape[1]),
        zero_point=30.0,
        band="r",
        gain=camera.gain,
        psf_fwhm=camera.fwhm,
    )
    return replace(record, **changes)


@pytest.fixture(scope="module")
def field():
    return simulate_field(np.random.default_rng(5), (400, 400), n=30, snr=(10, 200), defects=False)


def test_cutouts_carry_only_declared_columns_and_no_invented_numbers(field):
    image = image_of(field[0])
    found = list(measure_image(image, {}))
    assert len(found) >= 20
    declared = {column.name for column in COLUMNS}
    assert columns(Cutout) == COLUMNS
    for cutout in found:
        assert set(cutout.measured) <= declared
        assert all(math.isfinite(v) for v in cutout.measured.values() if isinstance(v, float))
        assert cutout.flux.shape == cutout.mask.shape == cutout.ivar.shape
        assert cutout.flux.shape[0] == 1
        assert cutout.flux.base is None or cutout.flux.base.size == cutout.flux.size
    assert len({cutout.row for cutout in found}) == len(found)
    assert len({cutout.object_id for cutout in found}) == len(found)


def test_positions_magnitudes_and_kinds_come_back():
    field, truth = simulate_field(
        np.random.default_rng(6), (400, 400), n=25, star_share=1.0, snr=(40, 200), defects=False, background=False
    )
    found = list(measure_image(image_of(field), {}))
    ra, dec = np.array([c.ra for c in found]), np.array([c.dec for c in found])
    offsets, ratios = [], []
    for i in range(25):
        others = np.hypot(truth["x"] - truth["x"][i], truth["y"] - truth["y"][i])
        edge = min(truth["x"][i], truth["y"][i], 399 - truth["x"][i], 399 - truth["y"][i])
        if np.sort(others)[1] < 25 or edge < 15:
            continue
        distance = 3600 * np.hypot((ra - truth["ra"][i]) * np.cos(np.radians(2.2)), dec - truth["dec"][i])
        offsets.append(distance.min())
        nearest = found[int(distance.argmin())]
        njy = 10 ** (0.4 * (31.4 - 30.0)) * nearest.measured["flux_aper_8"]
        ratios.append(njy / truth["flux_njy"][i])
        assert abs(nearest.measured["mag_kron"] - (31.4 - 2.5 * np.log10(truth["flux_njy"][i]))) < 0.1
    assert len(offsets) >= 10
    assert np.median(offsets) < 0.05
    assert np.median(ratios) == pytest.approx(1, abs=0.01)


def test_repeated_exposures_agree_within_their_errors():
    camera = Camera()
    pulls = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        field, _ = simulate_field(rng, (300, 300), n=12, snr=(20, 100), defects=False, background=False)
        sky = np.full((300, 300), camera.sky)
        again = dict(field)
        electrons = rng.poisson((field["clean"] + sky) * camera.gain) + rng.normal(0, camera.read_noise, sky.shape)
        again["flux"] = (electrons / camera.gain).astype(np.float32)
        first, second = (list(measure_image(image_of(f), {})) for f in (field, again))
        for a in first:
            b = min(
                second, key=lambda c: math.hypot(c.measured["x"] - a.measured["x"], c.measured["y"] - a.measured["y"])
            )
            if math.hypot(b.measured["x"] - a.measured["x"], b.measured["y"] - a.measured["y"]) < 1.5:
                error = math.hypot(a.measured["flux_aper_5_err"], b.measured["flux_aper_5_err"])
                pulls.append((a.measured["flux_aper_5"] - b.measured["flux_aper_5"]) / error)
    assert len(pulls) > 20
    assert 0.6 < np.std(pulls) < 1.4


def test_nothing_is_invented_on_an_empty_sky_with_defects():
    for seed in range(3):
        field, _ = simulate_field(np.random.default_rng(seed), (512, 512), n=0)
        assert list(measure_image(image_of(field), {})) == []


def test_every_source_lies_in_exactly_one_tile():
    field, _ = simulate_field(np.random.default_rng(9), (900, 700), n=220, snr=(15, 200), defects=False)
    whole = image_of(field)
    at = partial(tiles, 900, 700, largest=400, core=256, overlap=128)
    pieces = []
    for number, (y0, y1, x0, x1) in enumerate(at()):
        view = np.s_[y0:y1, x0:x1]
        tile = replace(
            whole,
            row=number,
            flux=whole.flux[view],
            ivar=whole.ivar[view],
            mask=whole.mask[view],
            saturated=None,
            origin=(y0, x0),
            core=core_of((y0, y1, x0, x1), 900, 700, core=256, overlap=128),
        )
        pieces += list(measure_image(tile, {}))
    once = list(measure_image(whole, {}))
    assert len(pieces) > 100
    xy = np.array([(c.measured["x"], c.measured["y"]) for c in pieces])
    distance = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1)) + 99 * np.eye(len(xy))
    assert distance.min() > 1.0  # none twice
    bright = [c for c in once if c.measured["snr"] > 10]
    lost = [c for c in bright if np.hypot(*(xy - (c.measured["x"], c.measured["y"])).T).min() > 1]
    assert len(lost) <= 0.01 * len(bright)  # deblending may see a parent differently; a seam loses none
    near = [c for c in lost if min(c.measured["x"] % 256, -c.measured["x"] % 256, c.measured["y"] % 256) < 3]
    assert near == []
    assert len({c.row for c in pieces}) == len(pieces)


def test_saturated_star_is_kept_with_flags():
    field, truth = simulate_field(np.random.default_rng(2), (200, 200), n=1, star_share=1.0, snr=(20000, 20001))
    found = list(measure_image(image_of(field), {}))
    near = [c for c in found if math.hypot(c.measured["x"] - truth["x"][0], c.measured["y"] - truth["y"][0]) < 5]
    assert len(near) == 1
    assert {"SATURATED", "CORE_MASKED", "MASKED"} <= set(decode(near[0].flags))
    assert near[0].measured["masked_fraction"] > 0


def test_masked_pixels_do_not_become_sources_and_are_flagged(field):
    image = image_of(field[0])
    flux, mask = image.flux.copy(), image.mask.copy()
    flux[50:53, 60:63] += 5000
    mask[50:53, 60:63] = True
    found = list(measure_image(replace(image, flux=flux, mask=mask), {}))
    assert all(math.hypot(c.measured["x"] - 61, c.measured["y"] - 51) > 4 for c in found)
    bright = max(list(measure_image(image, {})), key=lambda c: c.measured["snr"])
    x, y = round(bright.measured["x"]), round(bright.measured["y"])
    mask = image.mask.copy()
    mask[y + 1, x + 1] = True
    again = list(measure_image(replace(image, mask=mask), {}))
    same = min(again, key=lambda c: math.hypot(c.measured["x"] - x, c.measured["y"] - y))
    assert same.flags & NAMES["CORE_MASKED"].value
    assert same.mask.any()


def test_targets_are_measured_beside_detections(field):
    simulated, truth = field
    image = image_of(simulated)
    corner = image.wcs.all_pix2world([[5.0, 5.0]], 0)[0]
    targets = [("bright", truth["ra"][0], truth["dec"][0]), ("corner", *corner), ("elsewhere", 10.0, -60.0)]
    found = [c for c in measure_image(image, {"targets": targets}) if c.flags & NAMES["FORCED"].value]
    assert {c.object_id for c in found} == {"bright", "corner"}
    assert all(c.measured["is_forced"] for c in found)
    bright = next(c for c in found if c.object_id == "bright")
    assert bright.measured["x"] == pytest.approx(truth["x"][0], abs=1e-3)
    assert next(c for c in found if c.object_id == "corner").flags & NAMES["EDGE"].value


def test_image_without_wcs_zero_point_or_weights_still_gives_rows(field):
    image = image_of(field[0], wcs=None, zero_point=None, ivar=None, gain=None, psf_fwhm=None)
    found = list(measure_image(image, {}))
    assert found
    for cutout in found:
        assert cutout.ra is None
        assert cutout.measured["mag_kron"] is None
        assert cutout.measured["theta"] is None
        assert {"NO_POSITION", "NO_ERROR"} <= set(decode(cutout.flags))


def test_relative_weights_are_scaled_to_the_noise_and_flagged(field):
    image = image_of(field[0])
    relative = replace(image, ivar=(image.ivar / image.ivar.max()).astype(np.float32))
    absolute, scaled = (list(measure_image(i, {})) for i in (image, relative))
    assert abs(len(absolute) - len(scaled)) <= 2
    assert all(c.flags & NAMES["NO_ERROR"].value for c in scaled)
    assert not any(c.flags & NAMES["NO_ERROR"].value for c in absolute)


def test_plane_without_noise_is_refused_with_its_value(field):
    image = image_of(field[0], flux=np.full((400, 400), 7.0, np.float32))
    with pytest.raises(Unusable, match="median of 7"):
        list(measure_image(image, {}))


def test_the_image_is_not_written_to(field):
    image = image_of(field[0])
    before = image.flux.copy(), image.mask.copy(), image.ivar.copy()
    list(measure_image(image, {"cosmic_rays": True}))
    for a, b in zip(before, (image.flux, image.mask, image.ivar), strict=True):
        assert np.array_equal(a, b)
