from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from finetune import export, tasks
from finetune.bundle import Bundle, BundleError, bundled
from finetune.export import ExportError, run_export
from finetune.network import Network, stack
from tests.finetune.toy_task import TASK

NAN = float("nan")
#: What a user without this package does with the file.
ALONE = """
import json, sys
import numpy as np, torch
extra = {"nightcat.json": ""}
program = torch.export.load(sys.argv[1], extra_files=extra).module()
inputs = {name: torch.from_numpy(array) for name, array in np.load(sys.argv[2]).items()}
answer = program(**inputs)
assert not any(name.partition(".")[0] in ("finetune", "transforms", "transformers") for name in sys.modules)
print(json.dumps({"logits": answer["logits"].tolist(), **json.loads(extra["nightcat.json"])}))
"""


def test_the_program_answers_as_the_model_without_this_package(bundle: Bundle, tmp_path: Path, toys: None) -> None:
    report = run_export(bundle.path, tmp_path / "deep" / "toy.pt2", task=TASK)
    assert report["difference"] < 1e-6
    assert report["inputs"] == {"flux": [[4, 8], "float32"], "mask": [[4, 8], "bool"]}
    batch = [TASK.prepare(e.record) for e in TASK.simulate(4, 77)]
    np.savez(tmp_path / "in.npz", **stack(batch, ["flux", "mask"]))
    (tmp_path / "alone.py").write_text(ALONE)
    command = [sys.executable, "-I", "alone.py", "deep/toy.pt2", "in.npz"]
    said = json.loads(subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout)
    wanted = Network(bundle.networks(TASK), torch.device("cpu"))(batch, 4)["logits"]
    assert np.allclose(said["logits"], wanted, atol=1e-5)
    assert (said["digest"], said["classes"]) == (bundle.digest, ["faint", "bright"])
    assert said["calibration"]["temperature"] == 1.5
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["toy.pt2"]


def test_a_program_that_answers_otherwise_is_not_left(
    bundle: Bundle, tmp_path: Path, toys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy.pt2").write_bytes(b"the one before")
    monkeypatch.setattr(export, "_difference", lambda *_: float("nan"))
    with pytest.raises(ExportError, match="differs from the model"):
        run_export(bundle.path, tmp_path / "toy.pt2", task=TASK)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"the one before"]


@pytest.mark.parametrize(
    ("found", "wanted", "apart"),
    [([1.0, -4.0], [1.0, -5.0], 0.2), ([1.0, NAN], [1.0, NAN], 0.0), ([1.0, NAN], [1.0, 2.0], NAN)],
)
def test_an_answer_that_is_no_number_differs_from_one_that_is(found: list, wanted: list, apart: float) -> None:
    assert export._apart(np.array(found), np.array(wanted)) == pytest.approx(apart, nan_ok=True)


def test_what_cannot_be_exported_says_why(bundle: Bundle, tmp_path: Path, toys: None) -> None:
    with pytest.raises(ExportError, match=r"'model.onnx' does not end in \.pt2"):
        run_export(bundle.path, "model.onnx", task=TASK)
    with pytest.raises(BundleError, match="is no bundle"):
        run_export(tmp_path, tmp_path / "x.pt2", task=TASK)
    with pytest.raises(ExportError, match="simulates no 8 objects"):
        run_export(bundle.path, tmp_path / "x.pt2", task=replace(TASK, simulate=lambda n, seed: []))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", tasks.names())
def test_what_ships_can_be_exported(name: str, tmp_path: Path) -> None:
    report = run_export(bundled(name), tmp_path / "model.pt2")
    assert report["difference"] < 1e-5
    assert report["task"] == name
