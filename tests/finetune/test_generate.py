"""What is generated is near what was held back, says how far it may be off, and is not taken for an observation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import Table

from finetune.dataset import stream_records
from finetune.generate import _sides, run_fit, run_generate
from finetune.generation import load_generator
from finetune.generation_options import make_wanted
from finetune.inputs import list_files
from finetune.pretrain import run_pretrain
from finetune.pretrained import PretrainedError
from finetune.training_options import OptionsError
from pipeline.cli import main
from transforms.flags import bits
from transforms.records import Identity, LightCurve, Spectrum
from transforms.simulate.spectra import simulate_spectra
from transforms.simulate.spectrum_files import write_sdss_plate

SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
QUICK = {**SIZES, "steps": 3, "batch_size": 8, "evaluations": 1, "held_out": 0.4}
COLOURS = {"g": 0.3, "r": 0.0, "i": -0.1}  #: Of every simulated star: magnitudes from r.
AMPLITUDES = {"g": 1.3, "r": 1.0, "i": 0.8}


def magnitude(star: int, time: np.ndarray, band: str) -> np.ndarray:
    """A saw-tooth star: its mean magnitude, period and amplitude by its number, its colours by its amplitude."""
    rng = np.random.default_rng(star)
    period, amplitude, mean = rng.uniform(0.45, 0.7), rng.uniform(0.3, 0.8), rng.uniform(15, 18)
    phase = time / period
    shape = sum(np.sin(2 * np.pi * k * phase) / k for k in (1, 2))
    return mean + COLOURS[band] + 0.1 * amplitude + AMPLITUDES[band] * amplitude * shape / 2


def write_star(path: Path, star: int, bands: str = "gri") -> Path:
    rng = np.random.default_rng([star, 1])
    time = 53000 + np.sort(rng.uniform(0, 200, 30))
    lines = ["mjd,mag,magerr,band"]
    for band in bands:
        moments = time + 0.001 * "gri".index(band)
        seen = magnitude(star, moments, band) + 0.01 * rng.standard_normal(30)
        lines += [f"{t:.6f},{m:.4f},0.01,{band}" for t, m in zip(moments, seen, strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone of three steps, which knows nothing, and what the classical answers learnt."""
    folder = tmp_path_factory.mktemp("curves")
    (folder / "survey").mkdir()
    for star in range(30):
        write_star(folder / "survey" / f"star{star}.csv", star)
    files = [str(folder / "survey")]
    run_pretrain("light_curves", files, folder / "backbone", options={**QUICK, "hide": "band"})
    run_fit(folder / "backbone", files)
    return folder


@pytest.fixture(scope="module")
def spectra(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spectra")
    (folder / "survey").mkdir()
    write_sdss_plate(folder / "survey" / "spPlate-1.fits", simulate_spectra(36, 1, "sdss"))
    files = [str(folder / "survey")]
    run_pretrain("spectra", files, folder / "backbone", options={**QUICK, "hide": "range"})
    run_fit(folder / "backbone", files)
    return folder


def read(path: Path, kind: type) -> list[Any]:
    found = [r for file in list_files([str(path)]) for r in stream_records(file, kind)]
    assert all(isinstance(one, Identity) for one in found), found
    return found


def test_the_better_method_is_the_default_and_its_errors_cover(curves: Path) -> None:
    info = json.loads((curves / "backbone" / "generation.json").read_text())
    assert set(info["kinds"]) == {"band", "cadence"}
    for told in info["kinds"].values():
        assert told["best"] == "classical", "three steps teach nothing"
        assert told["classical"]["rms"] < 0.7 * told["learned"]["rms"]
        assert 0.5 < told["learned"]["coverage_68"] < 0.85
        assert 0.5 < told["classical"]["coverage_68"] < 0.85


@pytest.mark.parametrize("suffix", ["ecsv", "parquet"])
def test_a_missing_band_comes_back_through_the_readers(curves: Path, tmp_path: Path, suffix: str) -> None:
    observed = [write_star(tmp_path / f"new{star}.csv", star, "gi") for star in (901, 902)]
    target = tmp_path / f"r.{suffix}"
    found = run_generate(curves / "backbone", [str(p) for p in observed], target, band="r")
    assert (found["objects"], found["rows"], found["methods"]) == (2, 60, {"band: classical": 2})
    records = read(target, LightCurve)
    assert [one.object_id for one in records] == ["new901", "new902"]
    for one, star in zip(records, (901, 902), strict=True):
        assert one.flags & bits("GENERATED")
        assert one.unit == "nJy"
        assert set(one.band.tolist()) == {"r"}
        truth = magnitude(star, one.time, "r")
        off = 31.4 - 2.5 * np.log10(one.flux) - truth
        error = 2.5 / np.log(10) * one.flux_err / one.flux
        assert np.sqrt(np.mean(off**2)) < 0.1
        assert np.all(np.isfinite(error))
        assert np.all(error > 0.001)
        assert np.mean(np.abs(off) < 3 * error) > 0.9
    assert not [one for one in read(observed[0], LightCurve) if one.flags & bits("GENERATED")]


def test_what_was_observed_stays_marked_as_such(curves: Path, tmp_path: Path) -> None:
    star = write_star(tmp_path / "new.csv", 903, "gr")
    target = tmp_path / "both.ecsv"
    run_generate(curves / "backbone", [str(star)], target, cadence="50", observed=True, method="learned")
    table = Table.read(target, format="ascii.ecsv")
    digest = load_generator(curves / "backbone").digest
    assert table["flux"].unit == "nJy"
    assert table["mjd"].unit == "d"
    assert table.meta["model_digest"] == digest
    made = table["generated"]
    assert (made.sum(), (~made).sum()) == (100, 60)
    assert set(table["model_digest"][made]) == {digest[:16]}
    assert set(table["method"][made]) == {"learned"}
    own = read(star, LightCurve)[0]
    np.testing.assert_allclose(np.sort(table["flux"][~made]), np.sort(own.flux))
    period = own.measured["period"]
    dense = np.unique(table["mjd"][made])
    np.testing.assert_allclose(np.ptp(dense), period * 49 / 50, rtol=1e-3)


def test_a_missing_range_comes_back_through_the_readers(spectra: Path, tmp_path: Path) -> None:
    whole = read(spectra / "survey", Spectrum)
    keep = {}
    for one in whole[:2]:
        red = (one.wavelength > 5000) & ~one.mask
        name = f"cut{one.row}"
        keep[name] = one
        rows = zip(one.wavelength[red], one.flux[red], 1 / np.sqrt(one.ivar[red]), strict=True)
        text = "\n".join(f"{w:.4f},{f:.5g},{e:.5g}" for w, f, e in rows if np.isfinite(e))
        (tmp_path / f"{name}.csv").write_text("wavelength_vac,flux,flux_err\n" + text + "\n")
    target = tmp_path / "blue.ecsv"
    inputs = [str(tmp_path / f"{name}.csv") for name in keep]
    found = run_generate(spectra / "backbone", inputs, target, wavelengths="4300:5000", method="classical")
    assert (found["objects"], found["methods"]) == (2, {"blue: classical": 2})
    for one in read(target, Spectrum):
        assert one.flags & bits("GENERATED")
        assert 4290 < one.wavelength[0] < one.wavelength[-1] < 5010
        truth = keep[one.object_id]
        seen = np.interp(one.wavelength, truth.wavelength, truth.flux)
        noise = np.interp(one.wavelength, truth.wavelength, 1 / np.sqrt(np.maximum(truth.ivar, 1e-12)))
        off = np.abs(one.flux - seen) / np.hypot(noise, 1 / np.sqrt(one.ivar))
        assert np.mean(off < 3) > 0.8
        assert np.sqrt(np.mean((one.flux - seen) ** 2)) < 0.3 * np.median(np.abs(seen)) + 2 * np.median(noise)
    with pytest.raises(OptionsError, match=r"5200 to 5400 Angstrom is observed"):
        run_generate(spectra / "backbone", inputs, tmp_path / "x.ecsv", wavelengths="5200:5400")
    with pytest.raises(OptionsError, match="lies outside of"):
        run_generate(spectra / "backbone", inputs, tmp_path / "x.ecsv", wavelengths="8000:9000")


@pytest.mark.parametrize("error", ["", ",flux_err"])
def test_observed_pixels_beside_a_generated_range_are_read_back(spectra: Path, tmp_path: Path, error: str) -> None:
    one = read(spectra / "survey", Spectrum)[0]
    red = (one.wavelength > 5000) & ~one.mask
    rows = zip(one.wavelength[red], one.flux[red], 1 / np.sqrt(one.ivar[red]), strict=True)
    lines = [f"{w:.4f},{f:.5g}" + (f",{e:.5g}" if error else "") for w, f, e in rows]
    (tmp_path / "cut.csv").write_text(f"wavelength_vac,flux{error}\n" + "\n".join(lines) + "\n")
    target = tmp_path / "both.ecsv"
    run_generate(
        spectra / "backbone", [str(tmp_path / "cut.csv")], target, wavelengths="4300:5000", observed=True,
        method="classical",
    )  # fmt: skip
    (back,) = read(target, Spectrum)
    good = ~back.mask & (back.ivar > 0)
    assert (good & (back.wavelength > 5005)).sum() > 0.95 * red.sum()
    assert (good & (back.wavelength < 4995)).sum() > 50
    noise = np.median(1 / np.sqrt(back.ivar[good & (back.wavelength > 5005)]))
    assert 0.5 < noise / np.median(1 / np.sqrt(one.ivar[red])) < 2


@pytest.mark.parametrize(
    ("header", "offset", "name", "zero"),
    [
        ("hjd", 2400000.5, "hmjd", 0.0), ("bjd", 2400000.5, "bjd", 2400000.5), ("bjd", 0.5, "bjd", 2400000.5),
        ("hjd", 0.5, "hmjd", 0.0), ("jd", 2400000.5, "mjd", 0.0), ("mjd", 0.0, "mjd", 0.0),
        ("time", -52000.0, "time", 0.0),
    ],
)  # fmt: skip
def test_moments_are_called_what_they_are(
    curves: Path, tmp_path: Path, header: str, offset: float, name: str, zero: float
) -> None:
    lines = write_star(tmp_path / "star.csv", 907, "gr").read_text().splitlines()
    first = float(lines[1].split(",")[0])
    moved = [f"{float(t) + offset:.6f},{rest}" for t, rest in (line.split(",", 1) for line in lines[1:])]
    (tmp_path / "star.csv").write_text("\n".join([lines[0].replace("mjd", header), *moved]) + "\n")
    target = tmp_path / "i.ecsv"
    run_generate(curves / "backbone", [str(tmp_path / "star.csv")], target, band="i")
    found = Table.read(target, format="ascii.ecsv")
    assert [one for one in ("mjd", "hmjd", "bjd", "time") if one in found.colnames] == [name]
    assert found[name][0] == pytest.approx(first + zero + (offset if name == "time" else 0), abs=0.01)
    (back,), (whole,) = read(target, LightCurve), read(tmp_path / "star.csv", LightCurve)
    assert back.time[0] == pytest.approx(whole.time[0], abs=0.01)
    assert (back.mjd is None) == (whole.mjd is None)


def test_a_flux_without_a_unit_is_generated_in_its_own(curves: Path, tmp_path: Path) -> None:
    lines = write_star(tmp_path / "star.csv", 908, "g").read_text().splitlines()
    (tmp_path / "star.csv").write_text("\n".join([lines[0], *(line.replace(",g", ",Q") for line in lines[1:])]) + "\n")
    target = tmp_path / "dense.ecsv"
    run_generate(curves / "backbone", [str(tmp_path / "star.csv")], target, cadence="50", observed=True)
    (back,), (own,) = read(target, LightCurve), read(tmp_path / "star.csv", LightCurve)
    assert back.unit == own.unit == "relative"
    assert back.time.size == own.time.size + 50
    assert 0.3 < np.median(back.flux) / np.median(own.flux) < 3


def test_an_answer_is_never_asked_nor_judges(curves: Path, tmp_path: Path) -> None:
    star = write_star(tmp_path / "star.csv", 909, "gr")
    made = tmp_path / "survey" / "made.ecsv"
    made.parent.mkdir()
    run_generate(curves / "backbone", [str(star)], made, band="i", observed=True)
    with pytest.raises(OptionsError, match="a part of it was generated"):
        run_generate(curves / "backbone", [str(made)], tmp_path / "x.ecsv", cadence="50")
    for number in range(910, 914):
        write_star(tmp_path / "survey" / f"star{number}.csv", number)
    backbone = load_generator(curves / "backbone").backbone
    sides = _sides(backbone, [str(tmp_path / "survey")], 0, {}, {})
    assert sorted(r.object_id for side in sides for r, _ in side) == [f"star{n}" for n in range(910, 914)]


def test_the_first_rows_of_a_file_do_not_judge_alone(
    curves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = []
    for star in range(60):
        header, *rows = write_star(tmp_path / "star.csv", star).read_text().splitlines()
        lines += [f"{row},s{star:02d}" for row in rows]
    (tmp_path / "star.csv").unlink()
    (tmp_path / "all.csv").write_text("\n".join([f"{header},object_id", *lines]) + "\n")
    monkeypatch.setattr("finetune.generate.TRAIN", 6)
    monkeypatch.setattr("finetune.generate.HELD", 6)
    train, held = _sides(load_generator(curves / "backbone").backbone, [str(tmp_path / "all.csv")], 0, {}, {})
    assert (len(train), len(held)) == (6, 6)
    assert max(int(r.object_id[1:]) for r, _ in train) > 30, "not the first of a file that may be sorted"


def test_nothing_is_overwritten_and_every_fault_is_told(curves: Path, tmp_path: Path) -> None:
    star = write_star(tmp_path / "new.csv", 904, "gr")
    before = star.read_bytes()
    with pytest.raises(OptionsError, match="never take the place of a file"):
        run_generate(curves / "backbone", [str(star)], star, band="i")
    assert star.read_bytes() == before
    with pytest.raises(OptionsError, match=r"\.ecsv and \.parquet files"):
        run_generate(curves / "backbone", [str(star)], tmp_path / "x.fits", band="i")
    with pytest.raises(OptionsError, match="band 'r' was observed"):
        run_generate(curves / "backbone", [str(star)], tmp_path / "x.ecsv", band="r")
    with pytest.raises(OptionsError, match="0 training objects have all of grz"):
        run_generate(curves / "backbone", [str(star)], tmp_path / "x.ecsv", band="z")
    with pytest.raises(OptionsError) as error:
        make_wanted("light_curves", band="V", cadence="0d", wavelengths="1:2", method="magic")
    for part in ("band 'V'", "cadence '0d'", "range is of spectra", "method 'magic'"):
        assert part in str(error.value), part
    with pytest.raises(OptionsError, match="nothing is asked for"):
        make_wanted("light_curves")
    with pytest.raises(OptionsError, match=r"range '5:4' is not LOW:HIGH"):
        make_wanted("spectra", wavelengths="5:4")
    assert not (tmp_path / "x.ecsv").exists()


def test_a_backbone_is_not_asked_before_it_was_judged(curves: Path, tmp_path: Path) -> None:
    folder = tmp_path / "backbone"
    folder.mkdir()
    for path in (curves / "backbone").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    blob = bytearray((folder / "generation.safetensors").read_bytes())
    blob[-1] ^= 1
    (folder / "generation.safetensors").write_bytes(bytes(blob))
    with pytest.raises(PretrainedError, match=r"generation\.safetensors is damaged"):
        load_generator(folder)
    (folder / "generation.json").write_text("[]")
    with pytest.raises(PretrainedError, match=r"generation\.json is damaged"):
        load_generator(folder)
    (folder / "generation.json").unlink()
    with pytest.raises(PretrainedError, match="was not judged yet"):
        load_generator(folder)
    other = tmp_path / "other"
    other.mkdir()
    write_star(other / "star.csv", 905)
    with pytest.raises(OptionsError, match="are too few: 8 of each are needed"):
        run_fit(folder, [str(other)])


def test_a_pretraining_goes_on_from_a_backbone(curves: Path, tmp_path: Path) -> None:
    files, start = [str(curves / "survey")], str(curves / "backbone")
    options = {"steps": 0, "batch_size": 8, "evaluations": 1, "start": start}
    again = run_pretrain("light_curves", files, tmp_path / "again", options=options)
    assert again["options"]["hide"] == "visits"
    assert again["options"]["hidden_size"] == SIZES["hidden_size"]
    assert again["options"]["held_out"] == QUICK["held_out"]
    first, second = (
        (folder / "model.safetensors").read_bytes() for folder in (curves / "backbone", tmp_path / "again")
    )
    assert first == second, "no step was taken"
    for given, reason in (
        ({"held_out": 0.5}, "trained on what would be held out"),
        ({"hidden_size": 64}, "hidden_size 64 is not that of"),
        ({"hide": "range"}, "hide 'range' is not one of visits, band"),
        ({"start": str(tmp_path)}, "is no pretrained backbone"),
    ):
        with pytest.raises(OptionsError, match=reason):
            run_pretrain("light_curves", files, tmp_path / "no", options={**options, **given})


def test_the_command(curves: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    star = write_star(tmp_path / "new.csv", 906, "gr")
    arguments = ["generate", str(curves / "backbone"), "--input", str(star)]
    assert main(arguments) == 2
    assert "either --fit, or --output" in capsys.readouterr().err
    assert main([*arguments, "--output", str(tmp_path / "out"), "--band", "i", "--cadence", "40"]) == 0
    printed = capsys.readouterr().out
    assert "40 generated rows of 1 objects, 0 left out" in printed
    assert "errors cover" in printed
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["00000_new.ecsv"]
