from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from finetune import tasks
from finetune.inputs import InputError, list_files
from finetune.pretrain import find_objective, make_pretrain_options, run_pretrain
from finetune.pretrained import PretrainedError, build_options, fill, is_pretrained, load_pretrained
from finetune.training_options import OptionsError
from finetune.unlabelled import Stream, prepare_files
from finetune.watched_trainer import TrainingError
from pipeline.cli import main
from transforms.simulate.night import Size, write_night
from transforms.simulate.spectra import simulate_spectra
from transforms.simulate.spectrum_files import write_sdss_plate

SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
QUICK = {**SIZES, "steps": 9, "batch_size": 8, "evaluations": 3, "held_out": 0.25}


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two plates of spectra, a broken file, and one of another kind."""
    folder = tmp_path_factory.mktemp("survey")
    for number in range(2):
        write_sdss_plate(folder / f"spPlate-{number}.fits", simulate_spectra(16, number, "sdss"))
    (folder / "broken.fits").write_bytes(b"SIMPLE  =                    T" + b" " * 50)
    (folder / "curve.csv").write_text(
        "mjd,mag,mag_err\n" + "".join(f"{59000 + i},{15 + i % 2},0.1\n" for i in range(9))
    )
    return folder


@pytest.fixture(scope="module")
def backbone(survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backbones") / "spectra"
    run_pretrain("spectra", [str(survey)], folder, options={**QUICK, "ema": 0.9}, command="the command")
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_a_backbone_says_what_it_is(backbone: Path, survey: Path) -> None:
    info = load_pretrained(backbone).info
    assert (info["format"], info["modality"], info["created_by"]) == (1, "spectra", "the command")
    assert info["sizes"] == SIZES
    counts = info["data"]["counts"]
    assert counts["train"] + counts["held_out"] == 32
    assert min(counts["train"], counts["held_out"]) > 0
    assert (counts["files"], counts["files_without_record"], counts["refused"]) == (4, 1, 1)
    told = json.loads((backbone / "files.json").read_text())
    assert [one["source"] for one in told["refused"]] == ["broken.fits"]
    assert {one["source"]: one["train"] + one["held"] for one in told["files"].values()} == {
        "spPlate-0.fits": 16, "spPlate-1.fits": 16, "broken.fits": 0, "curve.csv": 0,
    }  # fmt: skip
    assert all(len(one["digest"]) == 64 for one in told["files"].values())
    assert [entry["step"] for entry in info["history"]] == [3, 6, 9]
    assert set(info["masked_error"]) == {"model", "interpolation", "mean_object"}
    assert not {"method", "checkpoints", "members"} & set(info["options"])
    assert not (backbone.parent / ".spectra.work").exists()


def test_a_training_that_was_broken_off_goes_on_to_the_same_weights(survey: Path, tmp_path: Path) -> None:
    class Broken(RuntimeError):
        pass

    def breaking(text: str) -> None:
        if text.startswith("step 6"):
            raise Broken

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def filling(text: str) -> None:
        if text.startswith("step 6"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))

    def run(name: str, inputs: Path = survey, say: Any = lambda text: None, **given: Any) -> dict[str, Any]:
        options = {**QUICK, "ema": 0.9, "dropout": 0.1, **given}
        return run_pretrain("spectra", [str(inputs)], tmp_path / name, options=options, say=say)

    undisturbed = run("a")
    again = {"checkpoints": str(tmp_path / "work"), "resume": True}
    with pytest.raises(Broken):
        run("b", say=breaking, **again)
    assert [path.name for path in (tmp_path / "work" / "states").iterdir()] == ["checkpoint-3"]
    with pytest.raises(PretrainedError, match="--resume"):
        run("b", checkpoints=again["checkpoints"])
    with pytest.raises(PretrainedError, match="other options: learning_rate differ"):
        run("b", **again, learning_rate=0.1)
    with pytest.raises(PretrainedError, match=r"prepared for another pretraining \(digests, urls differ\)"):
        run("b", survey / "spPlate-0.fits", **again)
    try:
        with pytest.raises(TrainingError, match="the state at step 6 cannot be written"):
            run("b", say=filling, **again)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "b").exists()
    resumed = run("b", **again)
    assert resumed["history"] == undisturbed["history"]
    assert resumed["masked_error"] == undisturbed["masked_error"]
    one, two = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(one[name], two[name]) for name in one)
    shutil.rmtree(tmp_path / "b")
    told: list[str] = []
    assert run("b", say=told.append, **again)["history"] == undisturbed["history"]
    assert not [text for text in told if text.startswith("step")], "it was trained to its end before"
    assert weights(tmp_path / "b")["cls"].equal(one["cls"])


def test_prepared_inputs_are_kept_and_used_again(survey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objective, task = find_objective("spectra"), tasks.get("stellar_parameters")
    files = list_files([str(survey)])
    first = prepare_files(files, task, objective, tmp_path, share=0.25, seed=0)

    def unread(*_: Any, **__: Any) -> Any:
        raise AssertionError("a file was read again")

    monkeypatch.setattr("finetune.unlabelled.stream_records", unread)
    again = prepare_files(files, task, objective, tmp_path, share=0.25, seed=0)
    assert again == first
    keys = {
        side: {int(row["star"]) for rows in first.batches(side, 8, 1000) for row in rows} for side in ("train", "held")
    }
    assert not keys["train"] & keys["held"]
    assert sum(len(rows) for rows in first.batches("train", 8, 10)) == 10


def test_what_a_model_made_is_not_learnt_from(tmp_path: Path) -> None:
    night = tmp_path / "night"
    night.mkdir()
    for name, generated in (("seen", "false"), ("made", "true")):
        lines = "".join(f"{59000 + i / 2},{15 + i % 3},0.1,g,{generated}\n" for i in range(40))
        (night / f"{name}.csv").write_text("mjd,mag,mag_err,band,generated\n" + lines)
    objective = find_objective("light_curves")
    task = tasks.get(objective.task)
    found = prepare_files(list_files([str(night)]), task, objective, tmp_path, share=0.5, seed=0)
    assert found.count("train") + found.count("held") == 1
    (refused,) = found.refused
    assert (refused["source"].split("/")[-1], refused["error"]) == ("made.csv", "Generated")


def test_the_stream_is_the_same_wherever_it_begins(survey: Path, tmp_path: Path) -> None:
    data = prepare_files(
        list_files([str(survey)]),
        tasks.get("stellar_parameters"),
        find_objective("spectra"),
        tmp_path,
        share=0.1,
        seed=0,
    )
    count = data.count("train")

    def stars(start: int, number: int, seed: int = 1) -> list[int]:
        stream = Stream(data, seed, buffer=8)
        stream.start = start
        source = iter(stream)
        return [int(next(source)["star"]) for _ in range(number)]

    whole = stars(0, 2 * count)
    assert stars(count + 3, 5) == whole[count + 3 : count + 8]
    assert sorted(whole[:count]) == sorted(whole[count:])
    assert whole[:count] != whole[count:]
    assert stars(0, count, seed=2) != whole[:count]


def test_a_backbone_is_copied_into_every_member(backbone: Path) -> None:
    task = tasks.get("stellar_parameters")
    build = build_options(backbone, {"members": ["direct", "residual"], "dropout": 0.1})
    assert build == {"members": ["direct", "residual"], "dropout": 0.1, **SIZES}
    model = task.build(**build)
    head = model.members[0].head.weight.clone()
    filled = fill(model, backbone)
    stored = {k: v for k, v in weights(backbone).items() if not k.startswith("decoder.")}
    assert len(filled) == 2 * len(stored)
    state = model.state_dict()
    for member in range(2):
        assert all(torch.equal(state[f"members.{member}.{name}"], value) for name, value in stored.items())
    assert torch.equal(model.members[0].head.weight, head)
    untouched = [name for name in state if ".encoder." in name and name not in filled]
    assert untouched == []


def test_what_does_not_fit_is_refused(backbone: Path, tmp_path: Path) -> None:
    task = tasks.get("stellar_parameters")
    before = task.build(**{**SIZES, "hidden_size": 64, "members": ["direct"]})
    state = {name: value.clone() for name, value in before.state_dict().items()}
    with pytest.raises(PretrainedError, match=r"has shape \(1, 1, 64\), the backbone's \(1, 1, 32\)"):
        fill(before, backbone)
    assert all(torch.equal(state[name], value) for name, value in before.state_dict().items())
    deeper = task.build(**{**SIZES, "num_hidden_layers": 2, "members": ["direct"]})
    with pytest.raises(PretrainedError, match="weights which the backbone lacks"):
        fill(deeper, backbone)
    with pytest.raises(PretrainedError, match="pretrained on spectra, does not fit LightCurveModel"):
        fill(tasks.get("variable_star").build(), backbone)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for path in backbone.iterdir():
        (damaged / path.name).write_bytes(path.read_bytes())
    content = bytearray((damaged / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (damaged / "model.safetensors").write_bytes(bytes(content))
    with pytest.raises(PretrainedError, match=r"model\.safetensors is damaged: SHA-256"):
        fill(task.build(**{**SIZES, "members": ["direct"]}), damaged)
    (damaged / "model.safetensors").unlink()
    with pytest.raises(PretrainedError, match=r"model\.safetensors is missing"):
        build_options(damaged, {})
    with pytest.raises(PretrainedError, match="is no pretrained backbone"):
        load_pretrained(tmp_path)
    assert (is_pretrained(backbone), is_pretrained(tmp_path)) == (True, False)


def test_too_little_is_a_clear_error(survey: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises((InputError, PretrainedError), match="empty"):
        run_pretrain("spectra", [str(tmp_path / "empty")], tmp_path / "out", options=QUICK)
    with pytest.raises(
        TrainingError, match="4 files hold no record for a pretraining on stamps; the first was refused"
    ):
        run_pretrain("stamps", [str(survey)], tmp_path / "out", options=QUICK)
    (tmp_path / "one").mkdir()
    write_sdss_plate(tmp_path / "one" / "spPlate.fits", simulate_spectra(1, 5, "sdss"))
    with pytest.raises(TrainingError, match="1 records of spectra are too few to hold 25% of their objects out"):
        run_pretrain("spectra", [str(tmp_path / "one")], tmp_path / "out2", options=QUICK)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("years of work")
    with pytest.raises(PretrainedError, match="left as it is"):
        run_pretrain("spectra", [str(survey)], tmp_path / "taken", options=QUICK)
    assert (tmp_path / "taken" / "thesis.txt").read_text() == "years of work"


def test_all_faults_of_the_options_are_told_at_once() -> None:
    given = {"mask": 1.5, "method": "head", "steps": -1, "hidden_size": "wide", "held_out": 0, "nonsense": 1}
    with pytest.raises(OptionsError) as error:
        make_pretrain_options(find_objective("spectra"), given)
    text = str(error.value)
    for part in ("mask 1.5", "'method'", "steps -1", "hidden_size 'wide'", "held_out 0", "'nonsense'"):
        assert part in text, part
    with pytest.raises(OptionsError, match="multiple of num_attention_heads 3"):
        make_pretrain_options(find_objective("light_curves"), {"num_attention_heads": 3})
    with pytest.raises(OptionsError, match="modality 'radio' is not one of"):
        find_objective("radio")


def test_the_command(survey: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    arguments = ["pretrain", "spectra", "--output", str(tmp_path / "b"), "--steps", "2"]
    assert main([*arguments, "--input", str(tmp_path / "empty")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("nightcat: ")
    assert "empty" in said
    sizes = [x for k, v in {**SIZES, "batch_size": 4, "evaluations": 1}.items() for x in ("--set", f"{k}={v}")]
    board = tmp_path / "board"
    assert main([*arguments, *sizes, "--input", str(survey), "--tensorboard", str(board)]) == 0
    printed = capsys.readouterr()
    assert "masked error of the model" in printed.out
    assert "interpolation" in printed.out
    assert "refused broken.fits" in printed.err
    assert list(board.rglob("events.out.tfevents*"))
    assert np.isfinite(load_pretrained(tmp_path / "b").info["masked_error"]["model"])


@pytest.mark.slow
def test_a_process_that_was_killed_is_gone_on_with(survey: Path, tmp_path: Path) -> None:
    sizes = [f"--set={k}={v}" for k, v in {**SIZES, "batch_size": 8, "evaluations": 3, "held_out": 0.25}.items()]
    program = "import sys; from pipeline.cli import main; sys.exit(main(sys.argv[1:]))"

    def start(name: str, *more: str) -> subprocess.Popen[str]:
        arguments = ["pretrain", "spectra", "--input", str(survey), "--output", str(tmp_path / name), "--steps", "9"]
        command = [sys.executable, "-c", program, *arguments, *sizes, *more]
        return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)

    undisturbed = start("a")
    assert undisturbed.communicate()[1].count("step ") == 3
    assert undisturbed.returncode == 0
    killed = start("b")
    assert killed.stderr is not None
    for line in killed.stderr:
        if line.startswith("step 6"):
            killed.kill()
            break
    killed.communicate()
    assert killed.returncode == -9
    assert not (tmp_path / "b").exists()
    resumed = start("b", "--resume")
    resumed.communicate()
    assert resumed.returncode == 0
    one, two = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
def test_the_default_sizes_learn_more_than_what_all_spectra_look_like(tmp_path: Path) -> None:
    write_night(tmp_path, 1, Size(fields=0, stamps=0, spectra=160, light_curves=0, broken=False))
    options = {"steps": 150, "batch_size": 16, "evaluations": 1, "held_out": 0.2}
    found = run_pretrain("spectra", [str(tmp_path / "night")], tmp_path / "backbone", options=options)
    assert found["masked_error"]["model"] < 0.9 * found["masked_error"]["mean_object"]
