"""The label-free calibration of an instrument: learnt from simulated stars whose response is known, and undone."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from finetune import selfcalibrate
from finetune import spectral_grid as grid
from finetune.adapt import run_adapt
from finetune.bundle import BundleError, bundled, load_bundle
from finetune.bundle_writing import derive_bundle
from finetune.predict import load_predictor
from finetune.tasks.stellar_parameters import TASK
from finetune.training_options import OptionsError
from transforms.flags import bits
from transforms.measure import measure
from transforms.simulate.spectra import simulate_spectra
from transforms.simulate.spectrum_files import write_lamost

AMPLITUDE = 0.08


def bump(wavelength: np.ndarray) -> np.ndarray:
    """A response with a line-like feature that no continuum takes out."""
    return 1 - AMPLITUDE * np.exp(-0.5 * ((wavelength - 5300) / 8) ** 2)


@pytest.fixture(scope="module")
def stars():
    examples = TASK.simulate(40, 11)
    records = []
    for example in examples:
        record = example.record
        seen = record.flux * bump(record.wavelength)
        records.append(replace(record, flux=seen.astype(np.float32), instrument="OTHER 1"))
    return [r for record in records for r in measure(record, {})]


@pytest.fixture(scope="module")
def prepared(stars):
    return [TASK.prepare(star) for star in stars]


@pytest.fixture(scope="module")
def baseline():
    return load_bundle(bundled(TASK.name)).baseline(TASK)


def test_the_response_is_found(prepared, baseline):
    found = TASK.adapt(prepared, baseline)
    centre = grid.wavelengths()[: grid.N_BIN * grid.BINNING].reshape(grid.N_BIN, -1).mean(1)
    inside = (centre > 5270) & (centre < 5330)
    outside = (centre > 4600) & (centre < 6500) & ~((centre > 5200) & (centre < 5400))
    factor = np.array(found["factor"])
    assert found["stars"] >= selfcalibrate.MIN_SPECTRA
    assert abs(factor[inside].min() - (1 - AMPLITUDE)) < 0.025
    assert np.median(np.abs(factor[outside] - 1)) < 0.02
    json.dumps(found)


def test_the_response_is_divided_out(prepared, baseline):
    found = TASK.adapt(prepared, baseline)
    place = np.abs(grid.wavelengths() - 5300) < 3
    before = prepared[0]["flux"][place].mean()
    after = TASK.adjust(prepared[0], found)
    assert after["flux"][place].mean() / before == pytest.approx(1 / (1 - AMPLITUDE), abs=0.03)
    assert (after["ivar"][place] < prepared[0]["ivar"][place]).all()
    assert after["calibrated"] == 1
    assert prepared[0]["calibrated"] == 0


def test_another_instrument_is_left_alone(stars, prepared, baseline):
    found = TASK.adapt(prepared, baseline)
    other = TASK.prepare(replace(stars[0], instrument="OTHER 2"))
    assert TASK.adjust(other, found) is other


def test_too_few_or_mixed_are_refused(stars, prepared, baseline):
    with pytest.raises(ValueError, match=r"\d+ of 5 spectra have a S/N of 5; 20 are needed"):
        TASK.adapt(prepared[:5], baseline)
    other = TASK.prepare(replace(stars[0], instrument="OTHER 2"))
    with pytest.raises(ValueError, match=r"of 2 instruments \(40, 1 spectra\)"):
        TASK.adapt([*prepared, other], baseline)


def test_an_adapted_bundle_is_another_model_and_says_so_in_its_rows(tmp_path, prepared, baseline):
    shipped = load_bundle(bundled(TASK.name))
    survey = TASK.adapt(prepared, baseline)
    adapted = derive_bundle(shipped, tmp_path / "it", calibration={**shipped.info.calibration, "survey": survey})
    assert adapted.digest != shipped.digest
    assert load_bundle(shipped.path).digest == shipped.digest
    flag = bits("NOT_CALIBRATED_TO_SURVEY")
    (before,) = load_predictor(shipped.path).predict(prepared[:1])
    (after,) = load_predictor(adapted.path).predict(prepared[:1])
    assert before["flags"] & flag
    assert not after["flags"] & flag
    assert after["teff"] != before["teff"]


def test_from_files(tmp_path):
    night = tmp_path / "stars"
    night.mkdir()
    for number, star in enumerate(simulate_spectra(24, 12)):
        write_lamost(night / f"spec-{number:02d}.fits", star)
    told: list[str] = []
    found = run_adapt(TASK.name, [str(night)], tmp_path / "out", say=told.append)
    assert found["objects"] == 24
    assert load_bundle(tmp_path / "out").info.calibration["survey"]["stars"] >= 20
    assert "24 objects, 0 refused" in told
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep me")
    with pytest.raises(BundleError, match="is no bundle"):
        run_adapt(TASK.name, [str(night)], tmp_path / "full")


def test_a_task_that_cannot_adapt_says_which_can(tmp_path):
    with pytest.raises(OptionsError, match="those that do: stellar_parameters"):
        run_adapt("variable_star", [str(tmp_path)], tmp_path / "out")
