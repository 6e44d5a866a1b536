"""The task of stellar parameters: input, model, answers, flags, rule, on simulated stars; real ones where present."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from finetune import spectral_grid as grid
from finetune.bundle import Info, bundled, load_bundle
from finetune.bundle_writing import save_bundle
from finetune.predict import load_predictor, make_predictor
from finetune.spectral_input import rest_velocity
from finetune.stellar_choice import COLUMNS as BEST
from finetune.stellar_choice import choose, fit_rule
from finetune.tasks.stellar_parameters import COLUMNS, TASK, decode
from finetune.train import train_task
from finetune.training_options import make_options
from transforms.flags import bits

SMALL = {"members": ["direct", "residual"], "hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64}


@pytest.fixture(scope="module")
def stars():
    return TASK.simulate(70, 3)


@pytest.fixture(scope="module")
def trained(stars):
    task = replace(TASK, options={**TASK.options, "build": SMALL})
    options = make_options(task, {"steps": 30, "batch_size": 16, "device": "cpu", "seed": 1})
    return train_task(task, stars[:50], stars[50:60], options)


def test_columns_are_exact_and_values_plain(trained, stars):
    predictor = trained.predictor()
    rows = predictor.predict([predictor.prepare(star.record) for star in stars[60:63]])
    names = [column.name for column in TASK.all_columns()]
    assert [list(row) for row in rows] == [[*names, "flags"]] * 3
    for row in rows:
        assert 2000 < row["best_teff"] < 40000
        assert all(row[c.name] is None or isinstance(row[c.name], float | str) for c in TASK.all_columns())


def test_training_lowers_the_loss(trained, stars):
    from finetune.network import Network, run_network

    def loss(model):
        held = [TASK.prepare(star.record) for star in stars[50:]]
        targets = torch.stack([torch.as_tensor(TASK.encode(star.labels)["labels"]) for star in stars[50:]])
        outputs = run_network(Network([model], torch.device("cpu")), held, 8)
        return float(TASK.loss({k: torch.as_tensor(v) for k, v in outputs.items()}, {"labels": targets}))

    torch.manual_seed(0)
    before = TASK.build(**SMALL)
    before.set_ridge(trained.baseline.ridge)
    assert loss(trained.models[0]) < loss(before) - 0.02


def test_prepare_is_deterministic_and_leaves_the_record_alone(stars):
    record = stars[0].record
    kept = record.flux.copy()
    first, second = TASK.prepare(record), TASK.prepare(record)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert np.array_equal(kept, record.flux)
    assert first["flux"].shape == first["ivar"].shape == (grid.N_PIXEL,)


@pytest.mark.parametrize("factor", [1e-19, 1.0, 3e7])
def test_prepare_does_not_depend_on_the_unit_of_flux(stars, factor):
    record = stars[1].record
    other = replace(
        record,
        flux=(record.flux.astype(float) * factor).astype(np.float32),
        ivar=None if factor < 1e-10 else (record.ivar / factor**2).astype(np.float32),
    )
    assert np.allclose(TASK.prepare(other)["flux"], TASK.prepare(record)["flux"], atol=2e-5)


def test_velocity_is_removed_only_where_it_can_be_trusted(stars):
    record = replace(stars[0].record, measured={"v_rad": 120.0, "v_rad_err": 5.0})
    assert rest_velocity(record) == 120.0
    assert rest_velocity(replace(record, flags=bits("VELOCITY_UNCERTAIN"))) == 0.0
    assert rest_velocity(replace(record, measured={"v_rad": 120.0, "v_rad_err": 400.0})) == 0.0
    assert rest_velocity(replace(record, measured={"v_rad": math.nan})) == 0.0
    assert rest_velocity(replace(record, frame="rest")) == 0.0
    assert rest_velocity(replace(record, measured={})) == 0.0


def test_an_empty_spectrum_gives_nulls_and_flags(trained, stars):
    record = stars[0].record
    empty = replace(record, mask=np.ones_like(record.mask), ivar=np.zeros_like(record.ivar))
    predictor = trained.predictor()
    row = predictor.predict([predictor.prepare(empty)])[0]
    assert row["flags"] & bits("NO_DATA")
    assert all(row[column.name] is None for column in TASK.all_columns())


def test_too_little_coverage_gives_no_number(trained, stars):
    record = stars[0].record
    part = replace(record, mask=record.mask | (record.wavelength < 5000) | (record.wavelength > 5300))
    predictor = trained.predictor()
    row = predictor.predict([predictor.prepare(part)])[0]
    assert row["teff"] is None
    assert row["best_teff"] is None
    assert row["flags"] & bits("OUT_OF_SUPPORT")
    assert row["flags"] & bits("PARTIAL_COVERAGE")


def test_outputs_that_are_not_finite_become_nulls(stars):
    prepared = [TASK.prepare(stars[0].record)]
    outputs = {
        "value": np.full((1, 2, 3), np.nan, np.float32),
        "log_error": np.zeros((1, 2, 3), np.float32),
        "base": np.zeros((1, 3), np.float32),
        "log_chi2": np.zeros(1, np.float32),
        "log_distance": np.zeros(1, np.float32),
    }
    row = decode(outputs, prepared, {})[0]
    assert row["teff"] is None
    assert row["flags"] & bits("MODEL_FAILED")
    assert set(row) == {column.name for column in COLUMNS} | {"flags"}


def test_an_answer_depends_neither_on_mates_nor_on_place(trained, stars):
    predictor = trained.predictor()
    batch = [predictor.prepare(star.record) for star in stars[52:60]]
    together = predictor.predict(batch)
    turned = predictor.predict(batch[::-1])[::-1]
    alone = [predictor.predict([item])[0] for item in batch]
    assert together == turned == alone


def test_bundle_round_trip_gives_the_same_rows(trained, stars, tmp_path):
    info = Info(
        task=TASK.name, task_version=TASK.version, package_version="0", build=trained.build,
        calibration=trained.calibration, rule=trained.rule,
    )  # fmt: skip
    bundle = save_bundle(tmp_path / "bundle", info=info, models=trained.models, baseline=trained.baseline)
    batch = [TASK.prepare(star.record) for star in stars[60:66]]
    before = make_predictor(
        TASK, trained.models, bundle.baseline(TASK), calibration=trained.calibration, rule=trained.rule
    ).predict(batch)
    after = load_predictor(tmp_path / "bundle").predict(batch)
    assert after == before


def test_rule_takes_the_better_method_and_its_intervals_hold():
    rng = np.random.default_rng(0)
    truth = [{"teff": 5000.0 + 10 * i, "logg": 3.0, "fe_h": -0.3} for i in range(200)]

    def rows(prefix, spread):
        return [
            {
                f"{prefix}teff": t["teff"] * 10 ** (spread * rng.normal(0, 0.01)),
                f"{prefix}logg": t["logg"] + spread * rng.normal(0, 0.2),
                f"{prefix}fe_h": t["fe_h"] + spread * rng.normal(0, 0.1),
            }
            for t in truth
        ]

    learned = [
        {**row, "teff_err": 100.0, "logg_err": 0.2, "fe_h_err": 0.1, "spectrum_sn": 50.0, "coverage_blue": 1.0,
         "coverage_red": 1.0} for row in rows("", 3.0)
    ]  # fmt: skip
    classical = [{**a, **b} for a, b in zip(rows("baseline_", 0.5), rows("baseline_match_", 4.0), strict=True)]
    rule = fit_rule(learned, classical, truth)
    assert rule["method"]["sn>40 full"] == "ridge"
    best = [choose(a, b, rule) for a, b in zip(learned, classical, strict=True)]
    assert all(set(row) == {column.name for column in BEST} for row in best)
    figures = TASK.metrics(best, truth, "best_")
    assert figures["logg_covered68"] == pytest.approx(0.68, abs=0.02)
    assert figures["fe_h_covered95"] == pytest.approx(0.95, abs=0.02)
    assert figures["logg_median_error"] < 0.1


def test_encode_marks_missing_labels_and_clips_metallicity():
    target = TASK.encode({"teff": 5000.0, "logg": None, "fe_h": 1.65})["labels"]
    assert target[0] == pytest.approx(math.log10(5000))
    assert np.isnan(target[1])
    assert target[2] == pytest.approx(0.7)
    assert np.isnan(TASK.encode({"teff": -1.0})["labels"]).all()


def test_shipped_bundle_on_real_stars(data):
    if not bundled_or_none():
        pytest.skip("no bundle of stellar_parameters ships yet")
    from transforms.measure import measure
    from transforms.readers import Source, identify
    from transforms.records import FileRef

    predictor = load_predictor(bundled(TASK.name))
    known = {"MILES_res2.50_star_m0001V.fits.gz": (5305.0, 4.49, -0.75)}
    for name, (teff, logg, fe_h) in known.items():
        path = data / "spectra" / "miles" / name
        with Source(FileRef(url=str(path), source=name, size=path.stat().st_size)) as source:
            kind = identify(source)
            record = next(iter(kind.entries(source, kind.items(source)[0]))).load()
        (record,) = measure(record, {})
        row = predictor.predict([predictor.prepare(record)])[0]
        assert row["teff"] == pytest.approx(teff, rel=0.05)
        assert row["logg"] == pytest.approx(logg, abs=0.6)
        assert row["fe_h"] == pytest.approx(fe_h, abs=0.4)


def test_shipped_bundle_is_small_and_whole():
    if not bundled_or_none():
        pytest.skip("no bundle of stellar_parameters ships yet")
    path = bundled(TASK.name)
    assert load_bundle(path).info.members == 1
    assert sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) < 8 * 2**20


def bundled_or_none():
    from finetune.bundle import BundleError

    try:
        return bundled(TASK.name)
    except BundleError:
        return None


def test_spectra_without_an_answer_calibrate_nothing():
    rng = np.random.default_rng(0)

    def draw(n, scatter, covered):
        ivar = np.full(grid.N_PIXEL, 1e4, np.float32)
        ivar[int(covered * grid.N_PIXEL) :] = 0
        outputs = {
            "value": rng.normal(0, scatter, (n, 2, 3)), "log_error": np.full((n, 2, 3), -2.0),
            "base": np.zeros((n, 3)), "log_distance": rng.normal(0, scatter, n), "log_chi2": rng.normal(0, scatter, n),
        }  # fmt: skip
        prepared = [{"flux": np.ones(grid.N_PIXEL, np.float32), "ivar": ivar}] * n
        return outputs, prepared, [{"labels": np.zeros(3)}] * n

    whole, bits_of = draw(100, 0.1, 1.0), draw(30, 50.0, 0.02)
    both = {name: np.concatenate([values, bits_of[0][name]]) for name, values in whole[0].items()}
    found = TASK.calibrate(both, [*whole[1], *bits_of[1]], [*whole[2], *bits_of[2]])
    assert found == TASK.calibrate(*whole)
