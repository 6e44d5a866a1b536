"""The one command that checks a GPU runs without one, and says so."""

from __future__ import annotations

import pytest
import torch

from benchmarks import gpu


def test_the_tiny_form_gives_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--tiny", "--device", "cpu", "--dtypes", "fp32", "bf16"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(gpu.NO_GPU)
    table = [[cell.strip() for cell in text.split("|")[1:-1]] for text in said.splitlines() if text.startswith("| ")]
    assert [row[:3] for row in table[1:]] == [
        ["ViT, tiny", "fp32", "4"], ["ViT, tiny", "bf16", "4"], ["variable_star", "fp32", "4"],
        ["variable_star", "bf16", "4"],
    ]  # fmt: skip
    assert {len(row) for row in table} == {10}
    for row in table[1:]:
        assert float(row[3]) > 0
        assert float(row[4]) > 0
        assert 0 <= float(row[6]) < 1
        assert float(row[9]) < (1e-4 if row[1] == "fp32" else 0.1)


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_measures_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main([]) == 2
    assert capsys.readouterr().out.startswith("No GPU is at hand")
