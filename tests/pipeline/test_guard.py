"""No command ends in a traceback: each fault is a sentence that names the thing, and an exit code."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from finetune import bundle
from pipeline import nights as work
from pipeline.cli import main
from pipeline.cli.guard import guarded
from pipeline.hats import CatalogError
from pipeline.options import ConfigError
from pipeline.quiet import voice
from pipeline.sources import InputError
from tests.pipeline import nights
from transforms.locations import LocationError
from transforms.store import OutputError

Say = pytest.CaptureFixture[str]
NIGHT = ["--night", "2026-11-24", "--tasks", "variable_star"]
COMMON = "toy/toy/dataset/_common_metadata"


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    root = tmp_path / "cat"
    nights.run(str(root), [nights.file("a"), nights.file("b")], bad=["b"])
    return root


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ConfigError(["one", "two"]), 2, "nightcat: one\nnightcat: two\n"),
        (CatalogError(["torn"]), 2, "torn"),
        (InputError("gone"), 2, "gone"),
        (LocationError("far"), 2, "far"),
        (pa.ArrowInvalid("magic bytes"), 2, "CAT: a file is damaged, and nightcat verify tells which: magic bytes"),
        (OutputError("full"), 4, "full"),
        (PermissionError(13, "Permission denied", "/x/y"), 4, "nightcat: /x/y: Permission denied"),
        (OSError(5, "Input/output error"), 4, "nightcat: CAT: Input/output error"),
        (FileNotFoundError("no catalog"), 4, "nightcat: no catalog\n"),
    ],
)
def test_each_error_has_its_code(error: Exception, code: int, words: str, capsys: Say) -> None:
    def fail() -> int:
        raise error

    assert guarded("CAT", None, fail, unforeseen=4) == code
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("command", ["verify", "rejects", "replay"])
def test_a_catalog_behind_an_unknown_protocol(command: str, capsys: Say) -> None:
    assert main([command, "foo://x"]) == 2
    assert "'foo://x' cannot be opened: Protocol not known: foo" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["rejects", "replay"])
def test_a_night_that_is_no_date(command: str, catalog: Path, capsys: Say) -> None:
    assert main([command, str(catalog), "--night", "2026-W01-1"]) == 2
    assert "2026-W01-1" in capsys.readouterr().err


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize(("command", "code"), [("verify", 1), ("rejects", 2), ("replay", 2)])
def test_a_damaged_manifest(command: str, code: int, catalog: Path, capsys: Say) -> None:
    (path,) = (catalog / "_runs").glob("*.json")
    cut(path)
    assert main([command, str(catalog)]) == code
    text = capsys.readouterr()
    assert path.name in text.err + text.out.replace("\n", "")


def test_a_damaged_common_schema_is_a_fault_that_verify_tells(catalog: Path, capsys: Say) -> None:
    cut(catalog / COMMON)
    assert main(["verify", str(catalog), "--json"]) == 1
    text = capsys.readouterr()
    assert COMMON in text.out
    assert "1 faults" in text.err


@pytest.mark.parametrize("damage", [COMMON, "_runs"])
def test_a_run_into_a_damaged_catalog_ends_with_a_sentence(
    damage: str, catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say
) -> None:
    (tmp_path / "n").mkdir()
    (tmp_path / "n" / "x.csv").write_text("x")
    cut(next((catalog / "_runs").glob("*.parquet")) if damage == "_runs" else catalog / damage)
    monkeypatch.setattr(work, "table_columns", lambda task, classes: nights.COLUMNS)
    if damage == COMMON:  # the schema of the task's own table
        (catalog / "toy").rename(catalog / "variable_star")
        (catalog / "variable_star" / "toy").rename(catalog / "variable_star" / "variable_star")
    arguments = ["run", "--input", str(tmp_path / "n"), "--output", str(catalog), *NIGHT, "--quiet"]
    assert main(arguments) == 2
    assert "damaged" in capsys.readouterr().err


def fail_with(error: Exception) -> Callable[..., Any]:
    def fail(*args: Any, **more: Any) -> Any:
        raise error

    return fail


def test_a_model_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say) -> None:
    closed = PermissionError(13, "Permission denied", "/models/x/model.safetensors")
    monkeypatch.setattr(bundle, "load_bundle", fail_with(closed))
    assert main(["run", "--input", str(tmp_path), "--output", str(tmp_path / "c"), *NIGHT, "--quiet"]) == 2
    text = capsys.readouterr().err
    assert "variable_star" in text
    assert "/models/x/model.safetensors" in text


def test_inputs_are_not_blamed_on_the_output(tmp_path: Path, capsys: Say) -> None:
    assert main(["run", "--input", f"@{tmp_path}", "--output", str(tmp_path / "c"), *NIGHT, "--quiet"]) == 2
    text = capsys.readouterr().err
    assert "Is a directory" in text
    assert "write" not in text


def test_a_log_that_cannot_be_written_is_an_output_that_cannot(tmp_path: Path, capsys: Say) -> None:
    (tmp_path / "file").write_text("not a folder")
    arguments = ["run", "--input", str(tmp_path), "--output", str(tmp_path / "file" / "cat"), *NIGHT, "--quiet"]
    assert main(arguments) == 4
    assert str(tmp_path / "file" / "cat") in capsys.readouterr().err


def test_options_of_a_runner_that_are_missing(tmp_path: Path, capsys: Say) -> None:
    (tmp_path / "x.csv").write_text("x")
    arguments = ["run", "--input", str(tmp_path / "x.csv"), "--output", str(tmp_path / "c"), *NIGHT, "--quiet"]
    assert main([*arguments, "--runner", "DataflowRunner"]) == 2
    assert "DataflowRunner needs -- --project=ID" in capsys.readouterr().err


def test_a_voice_is_heard_and_then_silent(tmp_path: Path) -> None:
    logger = logging.getLogger("nightcat")
    with (tmp_path / "screen").open("w") as screen:
        with voice(screen):
            logger.warning("%s is skipped", "x")
        with voice(None):
            logger.warning("unheard")
        logger.warning("unheard")
    assert (tmp_path / "screen").read_text() == "nightcat: x is skipped\n"
