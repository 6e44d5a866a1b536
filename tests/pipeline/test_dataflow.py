"""What Dataflow would be given: hints on the inference step alone, our container, coders that every engine reads."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-gcp" / "bin" / "python"


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON.is_file(), reason="the Google libraries have an environment of their own: make dataflow")
@pytest.mark.parametrize("how", ["run", "template"])
def test_a_night_is_translated_for_dataflow(how: str) -> None:
    """As ``nightcat run`` submits it, and as the launcher of the template does."""
    done = subprocess.run(
        [PYTHON, "-P", ROOT / "tests" / "pipeline" / "dataflow_dry_run.py", how], capture_output=True, text=True,
        timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["faults"] == []
    assert not said["streaming"]
    assert (said["detach"], said["machines"]) == ((True, 5) if how == "template" else (False, None))
    assert said["devices"] == ["cuda"], "told by the accelerator, and not looked for on the machine that launches"
    hinted, plain = sorted(said["environments"].values(), key=lambda one: not one["hints"])
    assert hinted["hints"] == {
        "min_ram_bytes": "8000000000",
        "accelerator": "type:nvidia-l4;count:1;install-nvidia-driver",
    }
    assert hinted["steps"] == ["Infer/Predict/ParDo(InferFn)"]
    assert plain["hints"] == {}
    assert {"Stage/PlaceRows", "Stage/Write", "Ingest/Identify/ParDo(IngestFn)"} <= set(plain["steps"])
    assert {one["container"] for one in (hinted, plain)} == {"eu.gcr.io/survey-project/nightcat:0.1.0"}
    # a key that only Python can read, or that is not the same bytes twice, must not decide where a row goes
    assert set(said["keys"]) >= {"Stage/GroupByPixel", "Infer/SpreadItems/ReshufflePerKey/GroupByKey"}
    for step, coder in said["keys"].items():
        assert any(kind in coder for kind in ("VarIntCoder", "TupleCoder", "StrUtf8Coder", "Deterministic")), (
            step,
            coder,
        )
