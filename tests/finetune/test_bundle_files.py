from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from finetune.bundle_files import new_folder

BUNDLES = Path(__file__).parents[2] / "finetune" / "bundles"


@pytest.mark.parametrize(("mask", "file", "folder"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)])
def test_modes_are_those_that_the_umask_asks_for(mask: int, file: int, folder: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        with new_folder(tmp_path / "b") as made:
            (made / "model").mkdir()
            save_file({"a": torch.zeros(2)}, made / "model" / "model.safetensors")  # makes its file for its owner only
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    weights = tmp_path / "b" / "model" / "model.safetensors"
    assert weights.stat().st_mode & 0o777 == file
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "b", weights.parent)} == {folder}


def test_all_may_read_the_models_that_ship() -> None:
    closed = [path for path in BUNDLES.rglob("*") if path.is_file() and not path.stat().st_mode & 0o004]
    assert closed == []
