"""A whole night on the toy format: the real graph, sinks, ledger and commit, with a model of no cost."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import pipeline.nights
import pipeline.sinks
import transforms.measure
import transforms.readers
from pipeline.models import Model
from pipeline.options import RunConfig
from tests import toy
from transforms.columns import IDENTITY, PROVENANCE, unique
from transforms.records import LightCurve

COLUMNS = unique((*IDENTITY, *toy.ANSWER, *toy.COLUMNS, *PROVENANCE))
MODELS = (Model("toy", "", toy.ToyPredictor.digest, LightCurve, "cpu", toy.ToyPredictor),)


def install(patch: Any = setattr) -> None:
    """Put the toy format and table in the place of the real ones; ``patch`` may be monkeypatch.setattr."""
    patch(transforms.readers, "MODULES", (toy.MODULE,))
    patch(
        transforms.measure,
        "STEPS",
        {**transforms.measure.STEPS, LightCurve: (toy.MODULE, "measure_light_curve", LightCurve)},
    )
    patch(pipeline.nights, "table_columns", lambda name, classes=(): COLUMNS)
    patch(pipeline.sinks, "table_columns", lambda name: COLUMNS)
    forget()


def forget() -> None:
    """Drop what was read from the registries: a test after the toy ones must see the real formats again."""
    pipeline.sinks._columns.cache_clear()
    transforms.readers.formats.cache_clear()
    transforms.measure.columns.cache_clear()


def write_night(folder: Path, files: int = 6, first: int = 100) -> Path:
    folder.mkdir(parents=True)
    for n in range(files):
        values = [str(first + 20 * n + i) for i in range(20)]
        (folder / f"f{n}.txt").write_text("TOY\n" + "\n".join(values) + "\n")
    (folder / "bad.txt").write_text("TOY\n66\nnonsense\n99\n5\n13\n")
    (folder / "empty.txt").write_text("")
    (folder / "unknown kind ü.txt").write_text("who knows")
    return folder


def run(*inputs: Path, output: Path, night: str | None = "2026-11-24", **options: Any) -> list[Any]:
    config = RunConfig(inputs=tuple(map(str, inputs)), output=str(output), night=night, tasks=("toy",), **options)
    return pipeline.nights.run_nights(config, MODELS)


def digests(catalog: Path) -> dict[str, str]:
    """Every file of a catalog but manifests, lock and log, by digest."""
    return {
        p.relative_to(catalog).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(catalog.rglob("*"))
        if p.is_file() and p.parts[len(catalog.parts)] not in (".logs", ".lock") and p.suffix != ".json"
    }


if __name__ == "__main__":
    install()
    run(Path(sys.argv[1]), output=Path(sys.argv[2]))
