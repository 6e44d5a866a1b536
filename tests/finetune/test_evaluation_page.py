from __future__ import annotations

import base64
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from finetune.breakdown import find_axes
from finetune.evaluation_page import ReportError, details, write_page
from finetune.judge import answers, judge
from finetune.train import train_task
from finetune.training_options import make_options
from tests.finetune.test_breakdown import TASK as STARS
from tests.finetune.test_breakdown import stars
from tests.finetune.toy_task import TASK
from transforms.columns import FLOAT32, Column

TOY = replace(TASK, columns=(*TASK.columns, Column("p_faint", FLOAT32, "", "stat.probability", "Probability of faint")))


def pictures(page: Path) -> list[bytes]:
    found = [base64.b64decode(text) for text in re.findall(r'base64,([^"]+)"', page.read_text(encoding="utf-8"))]
    assert all(data.startswith(b"\x89PNG") for data in found)
    return found


def test_a_page_of_a_classifier(tmp_path: Path) -> None:
    examples = TASK.simulate(80, 0)
    trained = train_task(TASK, examples[:30], examples[30:40], make_options(TASK, {"steps": 20}))
    kept, rows = answers(TASK, trained.predictor(), examples[40:])
    rows = [{**row, "p_faint": 1 - row["p_bright"]} for row in rows]
    axes = find_axes(TOY, rows, kept)
    report = {**judge(TOY, rows, kept, 50), "untrained": {"accuracy": 0.5}}
    report = {**report, **details(TOY, rows, kept, axes), "model": {"digest": "<abc>"}}
    page = write_page(tmp_path / "deep" / "page", TOY, report, rows, kept, axes, "toy & co")
    text = page.read_text(encoding="utf-8")
    assert "<title>toy &amp; co</title>" in text
    assert "&lt;abc&gt;" in text
    assert "<th>before training</th>" in text
    assert "<th>recall at 1% false positives</th>" in text
    assert len(pictures(page)) == 4, "confusion, ROC, precision and recall, reliability"
    kept_json = json.loads((page.parent / "report.json").read_text())
    assert kept_json["curves"]["learned"]["bright"]["n"] == sum(e.labels["class_name"] == "bright" for e in kept)
    assert kept_json["metrics"] == json.loads(json.dumps(report["metrics"]))
    assert "http" not in text, "a page stands by itself"


def test_a_page_of_measurements(tmp_path: Path) -> None:
    import numpy as np

    rows, examples = stars(120, 1, lambda snr: np.where(snr < 24, 250.0, -60.0))
    axes = find_axes(STARS, rows, examples)
    report = {**judge(STARS, rows, examples, 20), **details(STARS, rows, examples, axes)}
    page = write_page(tmp_path, STARS, report, rows, examples, axes, "stars")
    assert len(pictures(page)) == 4, "each quantity, and the sky"
    text = page.read_text(encoding="utf-8")
    assert re.search(r"parts? deviates? from the average", text)
    assert "bias_teff" in text


def test_without_matplotlib_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ReportError, match=r"pip install 'nightcat\[report\]'"):
        write_page(tmp_path / "p", TASK, {}, [], [], [], "x")
    assert not (tmp_path / "p").exists()
