"""Imports point one way: pipeline -> finetune -> transforms; the model's side never sees Beam."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOOR = {"transforms": 0, "finetune": 1, "pipeline": 2}
BEAM_STEPS = {"transforms.infer", "transforms.ingest"}


def imports(text: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def faults(room: str, text: str, path: str = "") -> list[str]:
    """What a module of a room imports against the law."""
    out = []
    for name in sorted(imports(text)):
        top = name.split(".")[0]
        if FLOOR.get(top, -1) > FLOOR[room]:
            out.append(f"{path} of {room} imports {name}")
        if room == "finetune" and (top == "apache_beam" or name in BEAM_STEPS):
            out.append(f"{path} of finetune imports {name}")
        if path.startswith("transforms/numerics") and (
            top in {"apache_beam", "torch", "transformers", "fsspec"} or name.startswith("transforms.re")
        ):
            out.append(f"{path}: numerics imports {name}")
    return out


@pytest.mark.parametrize("room", sorted(FLOOR))
def test_imports_point_one_way(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    found = [f for p in files for f in faults(room, p.read_text(), p.relative_to(ROOT).as_posix())]
    assert found == []


@pytest.mark.parametrize(
    ("room", "path", "line"),
    [
        ("transforms", "transforms/x.py", "from finetune.task import Task"),
        ("transforms", "transforms/x.py", "def f():\n    import pipeline.cli"),
        ("finetune", "finetune/x.py", "import apache_beam as beam"),
        ("finetune", "finetune/x.py", "from transforms.infer import Infer"),
        ("finetune", "finetune/x.py", "from transforms import infer"),
        ("finetune", "finetune/x.py", "import pipeline"),
        ("transforms", "transforms/numerics/x.py", "import torch"),
        ("transforms", "transforms/numerics/x.py", "from transforms.records import Image"),
    ],
)
def test_the_law_can_be_broken(room: str, path: str, line: str) -> None:
    assert faults(room, line, path)


def test_step_modules_are_all_named() -> None:
    """A new module of transforms that says beam. must be listed above, or finetune could import it unseen."""
    found = {
        ".".join(p.relative_to(ROOT).with_suffix("").parts)
        for p in (ROOT / "transforms").rglob("*.py")
        if "apache_beam" in {name.split(".")[0] for name in imports(p.read_text())}
    }
    assert found == BEAM_STEPS
