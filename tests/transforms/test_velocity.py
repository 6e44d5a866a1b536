"""Classical measurements on spectra: velocities of simulated and of real stars, and what must not get one."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import replace

import numpy as np
import pytest

from transforms import flags, spectral_templates
from transforms.readers import survey_spectra
from transforms.readers.format import Source
from transforms.records import FileRef, Spectrum
from transforms.simulate.spectra import draw_star, instruments, observe, simulate_spectra
from transforms.velocity import COLUMNS, measure_spectrum

DIGEST = "5a51fca08c8931e1761398b62c4e0409cc86457084fbfb99bb42865940da96cf"


def _robust(values):
    middle = np.median(values)
    return middle, 1.4826 * np.median(np.abs(values - middle))


def test_template_file_is_the_recorded_one():
    content = spectral_templates.PATH.read_bytes()
    assert hashlib.sha256(content).hexdigest() == DIGEST
    assert len(content) < 1_000_000
    library = spectral_templates.load()
    assert len(library.names) == library.coefficients.shape[0] == 854
    assert np.isfinite(library.teff).sum() > 819


@pytest.mark.parametrize("instrument", ["lamost", "sdss", "desi", "aaomega", "linear"])
def test_velocity_of_simulated_stars(instrument):
    errors, pulls = [], []
    for star in simulate_spectra(40, 21, instrument, snr=(15, 150)):
        measured = measure_spectrum(star.spectrum, {}).measured
        assert measured["snr"] == pytest.approx(star.truth["snr"], rel=0.12)
        errors.append(measured["v_rad"] - star.truth["v_rad"])
        pulls.append(errors[-1] / measured["v_rad_err"])
    bias, sigma = _robust(np.array(errors))
    assert abs(bias) < 2.0
    assert sigma < 5.0
    assert np.mean(np.abs(pulls) < 3) > 0.9


def test_columns_and_types():
    declared = {column.name: column for column in COLUMNS}
    (star,) = simulate_spectra(1, 22)
    measured = measure_spectrum(star.spectrum, {}).measured
    assert set(measured) <= set(declared)
    assert {"v_rad", "v_rad_err", "snr", "ew_hbeta", "ew_hbeta_err", "d4000", "continuum_colour"} <= set(measured)
    assert all(value == value and value is not None for value in measured.values())


def test_hot_and_cool_stars_have_the_indices_that_they_should():
    library, tool = spectral_templates.load(), instruments()["linear"]
    found = {}
    for name, chosen in (
        ("hot", (library.teff > 8500) & (library.teff < 9500) & (library.logg > 3.5)),
        ("cool", (library.teff > 4000) & (library.teff < 4500) & (library.fe_h > -0.3)),
    ):
        weights = np.zeros(len(library.names))
        weights[np.flatnonzero(chosen)[:3]] = 1 / 3
        flux, ivar, mask = observe(
            library.flux(weights), tool, np.random.default_rng(0), v_rad=0.0, snr=200.0, gaps=False
        )
        found[name] = measure_spectrum(
            Spectrum(source="s", wavelength=tool.wavelength, flux=flux.astype("f4"), ivar=ivar.astype("f4"), mask=mask),
            {},
        ).measured
    assert found["hot"]["ew_hbeta"] > 6 > 2.5 > found["cool"]["ew_hbeta"]
    assert found["cool"]["ew_mgb"] > 2 > found["hot"]["ew_mgb"]
    assert found["cool"]["d4000"] > 1.5 > found["hot"]["d4000"]
    assert found["cool"]["continuum_colour"] > found["hot"]["continuum_colour"] + 0.5


def _noise_only(seed: int, level: float = 1.0) -> Spectrum:
    wavelength = instruments()["lamost"].wavelength
    flux = (level + np.random.default_rng(seed).normal(0, 0.3, wavelength.size)).astype("f4")
    ivar, mask = np.full(wavelength.size, 1 / 0.09, "f4"), np.zeros(wavelength.size, bool)
    return Spectrum(source="noise", wavelength=wavelength, flux=flux, ivar=ivar, mask=mask)


def test_noise_gets_no_velocity():
    for seed in range(20):
        record = measure_spectrum(_noise_only(seed), {})
        assert "v_rad" not in record.measured
        assert "MEASURE_FAILED" in flags.decode(record.flags)


def test_no_data_is_a_row_without_numbers():
    (star,) = simulate_spectra(1, 23)
    n = star.spectrum.flux.size
    empty = replace(star.spectrum, flux=np.zeros(n, "f4"), ivar=np.zeros(n, "f4"), mask=np.ones(n, bool))
    record = measure_spectrum(empty, {})
    assert "NO_DATA" in flags.decode(record.flags)
    assert not {"v_rad", "snr", "wave_min"} & set(record.measured)


def test_without_errors_the_velocity_stands():
    (star,) = simulate_spectra(1, 24, snr=(60, 61))
    record = measure_spectrum(replace(star.spectrum, ivar=None), {})
    assert record.measured["v_rad"] == pytest.approx(star.truth["v_rad"], abs=15)


def test_arms_that_disagree_are_flagged_and_the_blue_one_stands():
    rng = np.random.default_rng(25)
    tool = instruments()["lamost"]
    library = spectral_templates.load()
    weights = np.zeros(len(library.names))
    weights[np.argmin(np.abs(library.teff - 5000))] = 1.0
    star = library.flux(weights)
    blue, ivar, _ = observe(star, tool, rng, v_rad=20.0, snr=100.0, gaps=False, tilt=0.0)
    red, _, _ = observe(star, tool, rng, v_rad=90.0, snr=100.0, gaps=False, tilt=0.0)
    flux = np.where(tool.wavelength < 5800, blue, red).astype("f4")
    record = measure_spectrum(
        Spectrum(
            source="s", wavelength=tool.wavelength, flux=flux, ivar=ivar.astype("f4"), mask=np.zeros(flux.size, bool)
        ),
        {},
    )
    assert "ARMS_DISAGREE" in flags.decode(record.flags)
    assert record.measured["v_rad_arm"] == "blue"
    assert record.measured["v_rad"] == pytest.approx(20.0, abs=12)
    assert record.measured["v_rad_red_blue"] == pytest.approx(70.0, abs=20)


def test_input_is_not_written_to():
    (star,) = simulate_spectra(1, 26)
    before = star.spectrum.flux.copy(), star.spectrum.ivar.copy(), star.spectrum.mask.copy()
    measure_spectrum(star.spectrum, {})
    for array, was in zip((star.spectrum.flux, star.spectrum.ivar, star.spectrum.mask), before, strict=True):
        assert np.array_equal(array, was)


def test_simulation_is_deterministic_and_within_the_labels():
    first, second = (simulate_spectra(3, 27)[2] for _ in range(2))
    assert np.array_equal(first.spectrum.flux, second.spectrum.flux)
    assert first.truth == second.truth
    rng = np.random.default_rng(28)
    for _ in range(50):
        flux, labels, group = draw_star(rng)
        assert (flux > 0).all()
        assert 2500 < labels["teff"] < 40_000
        assert -3 < labels["fe_h"] < 2
        assert group in spectral_templates.load().names
    with pytest.raises(ValueError, match="v_rad is 900"):
        observe(flux, instruments()["sdss"], rng, v_rad=900.0, snr=10.0)


def test_lamost_stars_against_their_labels(data):
    folder = data / "spectra"
    with (folder / "lamost_labels.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["rv"]]
    errors = []
    for row in rows:
        path = folder / "lamost_dr1" / row["file"]
        with Source(FileRef(url=str(path), source=path.name)) as source:
            reader = survey_spectra.FORMATS[0]
            (entry,) = reader.entries(source, reader.items(source)[0])
            measured = measure_spectrum(entry.load(), {}).measured
        errors.append(measured["v_rad"] - float(row["rv"]))
    bias, sigma = _robust(np.array(errors))
    assert len(errors) == 59
    assert abs(bias) < 8  # -4.1 measured; the templates' air scale and the labels' zero point are in it
    assert sigma < 6  # 4.4 measured
    assert np.max(np.abs(errors - bias)) < 30
