from __future__ import annotations

import json
import pickletools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from finetune.bundle import (
    INFO,
    Bundle,
    BundleError,
    Info,
    bundle_digest,
    bundled,
    check_version,
    load_bundle,
)  # fmt: skip
from finetune.bundle_writing import save_bundle
from finetune.jsonfile import plain, write_json
from finetune.network import Network
from finetune.train import Trained
from finetune.weights import load_weights, round_weights, save_weights, stored
from tests.finetune.conftest import save
from tests.finetune.toy_task import TASK, ToyModel, build


def test_round_trip_gives_the_same_weights_and_baseline(trained: Trained, bundle: Bundle) -> None:
    read = bundle.models(TASK)
    assert len(read) == len(trained.models) == 2
    for ours, theirs in zip(trained.models, read, strict=True):
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        for name, value in ours.state_dict().items():
            other = theirs.state_dict()[name]
            assert other.dtype == torch.float32
            assert torch.equal(value, other), name
    assert bundle.baseline(TASK).level == trained.baseline.level
    assert bundle.info.calibration == {"temperature": 1.5}
    assert bundle.info.classes == TASK.classes


def test_transformers_itself_reads_the_model(bundle: Bundle) -> None:
    theirs = ToyModel.from_pretrained(bundle.path / "model", dtype=torch.float32).eval()
    ours = bundle.models(TASK)[0]
    batch = [TASK.prepare(e.record) for e in TASK.simulate(4, 9)]
    cpu = torch.device("cpu")
    np.testing.assert_array_equal(Network([ours], cpu)(batch, 4)["logits"], Network([theirs], cpu)(batch, 4)["logits"])


def test_matrices_are_stored_in_half_and_vectors_whole(bundle: Bundle, trained: Trained, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    for name, tensor in load_file(bundle.path / "model" / "model.safetensors").items():
        assert tensor.dtype == (torch.float16 if tensor.ndim >= 2 else torch.float32), name
    whole = save(trained, tmp_path / "whole", storage="fp32")
    assert {t.dtype for t in load_file(whole.path / "model" / "model.safetensors").values()} == {torch.float32}
    with pytest.raises(BundleError, match="'int4' is not one of fp16, fp32"):
        save(trained, tmp_path / "odd", storage="int4")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["whole"], "a failed save leaves nothing behind"


def test_what_half_cannot_hold_stays_whole() -> None:
    assert stored(torch.full((2, 2), 1e6), "fp16").dtype == torch.float32
    assert stored(torch.full((2, 2), 1.0), "fp16").dtype == torch.float16
    assert stored(torch.arange(4).reshape(2, 2), "fp16").dtype == torch.int64
    model = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(model.weight, 0.1)
    round_weights(model, "fp16")
    assert model.weight[0, 0].item() == np.float16(0.1)


def test_no_pickle_on_disk(bundle: Bundle) -> None:
    for path in bundle.path.rglob("*"):
        if path.is_file():
            assert path.suffix in (".json", ".safetensors"), path
            with pytest.raises((ValueError, UnicodeDecodeError, IndexError)):
                list(pickletools.genops(path.read_bytes()))


@pytest.mark.parametrize(
    "name", ["model/model.safetensors", "baseline.safetensors", "baseline.json", "model/config.json"]
)
def test_a_damaged_file_is_named(trained: Trained, tmp_path: Path, name: str) -> None:
    path = save(trained, tmp_path / "b").path / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=rf"{name} is damaged: SHA-256"):
        load_bundle(tmp_path / "b")


def test_missing_and_unlisted_files_are_named(trained: Trained, tmp_path: Path) -> None:
    path = save(trained, tmp_path / "b").path
    (path / "baseline.json").unlink()
    (path / "more.bin").write_bytes(b"x")
    (path / ".hidden").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"baseline.json is missing; more.bin is not listed") as caught:
        load_bundle(path)
    assert ".hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("{", "is damaged"), ("[]", "is not of bundle format 1"), ('{"format": 99}', "is not of bundle format 1")],
)
def test_a_damaged_description_is_named(trained: Trained, tmp_path: Path, text: str, sentence: str) -> None:
    path = save(trained, tmp_path / "b").path
    (path / INFO).write_text(text)
    with pytest.raises(BundleError, match=sentence):
        load_bundle(path)


def test_entries_of_the_description_are_checked(trained: Trained, tmp_path: Path) -> None:
    path = save(trained, tmp_path / "b").path
    content = json.loads((path / INFO).read_text())
    del content["rule"]
    (path / INFO).write_text(json.dumps({**content, "pickle": "x"}))
    with pytest.raises(BundleError, match="unknown entries: pickle, rule"):
        load_bundle(path)


def test_the_digest_is_of_content_and_not_of_place(trained: Trained, bundle: Bundle, tmp_path: Path) -> None:
    again = save(trained, tmp_path / "elsewhere")
    assert again.digest == bundle.digest
    assert len(again.digest) == 64
    other = save(replace(trained, rule={"method": "classical"}), tmp_path / "other")
    assert other.digest != bundle.digest, "the rule is part of the model"
    assert (
        bundle_digest({"a": "1", "b": "2"})
        == bundle_digest({"b": "2", "a": "1"})
        != bundle_digest({"a": "2", "b": "1"})
    )


def test_a_bundle_is_replaced_whole_and_nothing_else_is(trained: Trained, tmp_path: Path) -> None:
    first = save(trained, tmp_path / "b")
    second = save(replace(trained, rule={"method": "classical"}, models=trained.models[:1]), tmp_path / "b")
    assert second.digest != first.digest
    assert not (tmp_path / "b" / "model_1").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("x")
    with pytest.raises(BundleError, match="thesis exists and is no bundle"):
        save(trained, tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "x"
    (tmp_path / "empty").mkdir()
    save(trained, tmp_path / "empty")


def test_a_bundle_of_other_code_is_refused(bundle: Bundle) -> None:
    assert check_version(TASK, bundle) is TASK
    with pytest.raises(BundleError, match=r"made for task version 1, the code has 2; train it again"):
        check_version(replace(TASK, version=2), bundle)
    with pytest.raises(BundleError, match="classes"):
        check_version(replace(TASK, classes=("faint", "bright", "odd"), with_classes=None), bundle)
    with pytest.raises(BundleError, match="classes"):
        check_version(replace(TASK, classes=("dim", "bright")), bundle)
    with pytest.raises(BundleError, match="no task named 'toy'"):
        bundle.task()


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    save_weights(build(), tmp_path / "m", "fp16")
    with pytest.raises(BundleError, match="does not fit the model"):
        load_weights(build, {"width": 32}, tmp_path / "m")
    with pytest.raises(BundleError, match="lacks weights weight, bias"):
        load_weights(lambda: torch.nn.Linear(2, 2), {}, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").write_bytes(b"not a tensor in sight")
    with pytest.raises(BundleError, match="cannot be read"):
        load_weights(build, {}, tmp_path / "m")


def test_loading_leaves_the_seed_of_others_alone(bundle: Bundle) -> None:
    torch.manual_seed(3)
    first = torch.rand(3)
    torch.manual_seed(3)
    bundle.models(TASK)
    assert torch.equal(torch.rand(3), first)


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is no bundle: it has no bundle\.json"):
        load_bundle(tmp_path)
    with pytest.raises(BundleError, match="no model ships for the task 'astrology'"):
        bundled("astrology")


def test_json_is_strict(trained: Trained, tmp_path: Path) -> None:
    value = {"a": np.float32(0.5), "b": np.arange(2), "c": (np.bool_(True), {"d"}), 3: None}
    assert plain(value) == {"a": 0.5, "b": [0, 1], "c": [True, ["d"]], "3": None}
    with pytest.raises(ValueError, match=r"x.json: a value has no JSON form"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    info = Info(task="toy", task_version=1, package_version="0", rule={"f": object()})
    with pytest.raises(ValueError, match="no JSON form"):
        save_bundle(tmp_path / "b", info=info, models=trained.models, baseline=trained.baseline)
    assert list(tmp_path.iterdir()) == []
