"""Sky and cosmic rays taken out of an image, stamps measured alone, the simulated field itself."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from transforms.attempt import Unusable
from transforms.crop import crop, measure_cutout
from transforms.denoise import mask_cosmic_rays, subtract_background
from transforms.flags import NAMES, decode
from transforms.records import Cutout, Image
from transforms.simulate.image_files import LAYOUTS, write_field
from transforms.simulate.images import KINDS, Camera, galaxy, simulate_field
from transforms.source_columns import COLUMNS


def exposure(seed=0, n=10, **options):
    field, truth = simulate_field(np.random.default_rng(seed), (256, 256), n=n, **options)
    flux = field["flux"]
    image = Image(
        source="f.fits", flux=flux, mask=np.zeros(flux.shape, bool), core=(0, 256, 0, 256), gain=4.0, psf_fwhm=4.0
    )
    return image, field, truth


def test_background_is_subtracted_and_the_noise_is_taken_from_the_pixels():
    image, field, _ = exposure(defects=False)
    flat = subtract_background(image)
    empty = field["clean"] < 0.5
    assert abs(np.median(flat.flux[empty])) < 0.5
    assert 1 / np.sqrt(np.median(flat.ivar)) == pytest.approx(Camera().noise, rel=0.05)
    assert flat.flags & NAMES["NO_ERROR"].value
    assert image.ivar is None


def test_stated_noise_is_kept():
    image, field, _ = exposure(defects=False)
    flat = subtract_background(replace(image, ivar=field["weight"]))
    assert np.array_equal(flat.ivar, field["weight"])
    assert not flat.flags & NAMES["NO_ERROR"].value


def test_cosmic_rays_are_masked_and_pixels_keep_their_values():
    image, field, _ = exposure(seed=4, n=6)
    marked = mask_cosmic_rays(image)
    hit = field["mask"] == 5
    assert hit.sum() > 3
    assert marked.mask[hit].mean() > 0.6
    assert np.array_equal(marked.flux, image.flux)
    clean = field["clean"] > 5 * Camera().noise
    assert marked.mask[clean & (field["mask"] == 0)].mean() < 0.01


def test_cosmic_rays_need_a_gain():
    image, _, _ = exposure()
    with pytest.raises(Unusable, match="gain is None"):
        mask_cosmic_rays(replace(image, gain=None))


def test_crop_masks_what_lies_outside_and_copies():
    image, field, _ = exposure()
    flat = replace(image, ivar=field["weight"])
    stamp = crop(flat, 0.0, 250.0, 64)
    assert stamp["flux"].shape == stamp["mask"].shape == stamp["ivar"].shape == (1, 64, 64)
    assert stamp["mask"][0, :32].all()
    assert stamp["flux"][0, 32, 32] == image.flux[0, 250]
    stamp["flux"][:] = 0
    assert image.flux.any()


@pytest.mark.parametrize("kind", KINDS[:4])
def test_central_galaxy_of_a_stamp_is_measured(kind):
    rng = np.random.default_rng(1)
    light = 40000 * galaxy(rng, kind, 48, 5.0, 1.7, (0.3, -0.2))
    flux = (light + rng.normal(0, 5, light.shape)).astype(np.float32)[None]
    stamp = Cutout(
        source="s",
        flux=flux,
        ivar=np.full(flux.shape, 0.04, np.float32),
        mask=np.zeros(flux.shape, bool),
        zero_point=31.4,
    )
    measured = measure_cutout(stamp, {}).measured
    assert set(measured) <= {column.name for column in COLUMNS}
    assert math.hypot(measured["x"] - 47.8, measured["y"] - 48.3) < (12 if kind == "odd" else 0.5)
    if kind != "odd":  # a merger may be deblended
        assert measured["flux_kron"] == pytest.approx(40000, rel=0.12)
        assert measured["mag_kron"] == pytest.approx(31.4 - 2.5 * math.log10(40000), abs=0.15)
        assert measured["morph_gini"] is not None


def test_wide_display_stamp_is_measured_in_native_pixels():
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:300, :300]
    light = 150 * np.exp(-((x - 152) ** 2 + (y - 147) ** 2) / (2 * 12.0**2))
    flux = np.repeat((light + rng.normal(12, 3, light.shape)).clip(0, 255).astype(np.float32)[None], 3, axis=0)
    stamp = Cutout(source="s", flux=flux, mask=np.zeros(flux.shape, bool), bands=("R", "G", "B"), unit="display")
    measured = measure_cutout(stamp, {}).measured
    assert (measured["x"], measured["y"]) == (pytest.approx(152, abs=1), pytest.approx(147, abs=1))
    assert measured["a"] == pytest.approx(12, rel=0.15)
    assert measured["flux_kron"] == pytest.approx(light.sum(), rel=0.1)
    assert measured["flux_unit"] == "display"
    assert measured["mag_kron"] is None


def test_stamp_without_an_object_is_a_row_with_a_flag_and_nulls():
    flux = np.random.default_rng(0).normal(0, 1, (1, 64, 64)).astype(np.float32)
    empty = Cutout(source="s", flux=flux, ivar=np.ones_like(flux), mask=np.zeros(flux.shape, bool))
    done = measure_cutout(empty, {})
    assert "MEASURE_FAILED" in decode(done.flags)
    assert done.measured.get("flux_kron") is None
    masked = measure_cutout(replace(empty, mask=np.ones(flux.shape, bool)), {})
    assert {"NO_DATA", "MEASURE_FAILED"} <= set(decode(masked.flags))


def test_truth_of_a_field_is_what_was_drawn():
    field, truth = simulate_field(np.random.default_rng(9), (300, 300), n=1, star_share=1.0, snr=(100, 101))
    assert 30 < min(truth["x"][0], truth["y"][0]) < max(truth["x"][0], truth["y"][0]) < 270
    counts = truth["flux_njy"][0] / 10 ** (0.4 * 1.4)
    assert field["clean"].sum() == pytest.approx(counts, rel=1e-3)
    y, x = np.mgrid[:300, :300]
    assert (field["clean"] * x).sum() / counts == pytest.approx(truth["x"][0], abs=0.01)
    assert (field["clean"] * y).sum() / counts == pytest.approx(truth["y"][0], abs=0.01)
    for kind in KINDS[:4]:
        assert galaxy(np.random.default_rng(0), kind, 30, 4.0, 1.7, (0.0, 0.0)).sum() == pytest.approx(1)


def test_simulation_repeats_bit_by_bit_with_its_seed(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        field, _ = simulate_field(np.random.default_rng(7), (64, 64), n=3)
        for layout in LAYOUTS:
            write_field(tmp_path / folder, "night", field, layout)
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / f).iterdir()} for f in ("a", "b"))
    assert len(first) == 5
    assert first == second
    with pytest.raises(ValueError, match="'tar' is not one of plain, compressed, triple"):
        write_field(tmp_path, "x", field, "tar")
