"""What a replay does again, and with what."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pipeline.hats import CatalogError
from pipeline.ledger import Ledger
from pipeline.nights import run_night
from pipeline.options import RunConfig
from pipeline.replay import check_models, rejected_inputs, replay_configs
from pipeline.sources import find_files, fingerprint
from pipeline.verify import verify
from tests import toy_night
from transforms.records import Reject

NIGHT, SECOND = "2026-11-24", "2026-11-25"


pytestmark = pytest.mark.usefixtures("toys")


@pytest.fixture
def night(tmp_path: Path) -> Path:
    return toy_night.write_night(tmp_path / "night")


def replay(catalog: Path, night: str = NIGHT) -> int:
    config = replay_configs(str(catalog), night, None)[night]
    return run_night(config, toy_night.MODELS, night, rejected_inputs(str(catalog), night)[night]).rejects


def test_each_night_is_replayed_with_its_own_options(night: Path, tmp_path: Path) -> None:
    catalog = tmp_path / "cat"
    toy_night.run(night, output=catalog, threshold=7.0)
    toy_night.run(night, output=catalog, night=SECOND, checksums=False)
    configs = replay_configs(str(catalog), None, None)
    assert (configs[NIGHT].threshold, configs[NIGHT].checksums) == (7.0, True)
    assert (configs[SECOND].threshold, configs[SECOND].checksums) == (4.5, False)
    assert configs[NIGHT].tasks == ("toy",)
    assert replay_configs(str(catalog), SECOND, True)[SECOND].checksums is True


def test_bundles_that_the_user_named_are_taken_again(night: Path, tmp_path: Path) -> None:
    toy_night.run(night, output=tmp_path / "cat", bundles={"toy": "/models/mine"})
    assert replay_configs(str(tmp_path / "cat"), None, None)[NIGHT].bundles == {"toy": "/models/mine"}


def test_another_model_is_refused(night: Path, tmp_path: Path) -> None:
    toy_night.run(night, output=tmp_path / "cat")
    check_models(str(tmp_path / "cat"), NIGHT, toy_night.MODELS)
    other = dataclasses.replace(toy_night.MODELS[0], digest="f" * 16, path="/models/other")
    with pytest.raises(
        CatalogError, match=f"night {NIGHT} was made with the model .* of toy, but /models/other is ffff"
    ):
        check_models(str(tmp_path / "cat"), NIGHT, (other,))


def test_a_file_that_is_gone_keeps_its_rows(night: Path, tmp_path: Path) -> None:
    catalog = tmp_path / "cat"
    (before,) = toy_night.run(night, output=catalog)
    content = (night / "bad.txt").read_bytes()
    (night / "bad.txt").unlink()
    replay(catalog)
    ledger = Ledger(str(catalog))
    rows = {e["source"]: e["rows"] for _, e in ledger.inputs(ledger.runs()) if e["rows"]}
    assert sum(rows.values()) == sum(before.rows.values())
    assert [r["error"] for r in ledger.rejects() if r["source"] == "bad.txt"] == ["FileNotFoundError"]
    assert verify(str(catalog)) == []
    (night / "bad.txt").write_bytes(content)
    assert replay(catalog) == before.rejects
    assert verify(str(catalog)) == []


def test_sizes_are_known_in_a_replay(night: Path, tmp_path: Path) -> None:
    toy_night.run(night, output=tmp_path / "cat")
    inputs = rejected_inputs(str(tmp_path / "cat"), None)[NIGHT]
    assert {f.source: f.size for f in inputs.files} == {
        name: (night / name).stat().st_size for name in ("bad.txt", "empty.txt", "unknown kind ü.txt")
    }


def test_a_folder_that_was_closed_is_listed_again(night: Path, tmp_path: Path) -> None:
    catalog = tmp_path / "cat"
    (night / "deep").mkdir()
    (night / "deep" / "late.txt").write_text("TOY\n900\n")
    found = fingerprint(find_files([str(night)]))
    closed = Reject(
        source="deep", stage="ingest", error="PermissionError", reason="cannot read deep", url=str(night / "deep")
    )
    files = tuple(f for f in found.files if not f.source.startswith("deep/"))
    config = dataclasses.replace(replay_config(night, catalog), force=False)
    run_night(config, toy_night.MODELS, NIGHT, dataclasses.replace(found, files=files, rejects=(closed,)))
    assert "deep" in {r["source"] for r in Ledger(str(catalog)).rejects()}
    replay(catalog)
    ledger = Ledger(str(catalog))
    assert "deep" not in {r["source"] for r in ledger.rejects()}
    assert {e["source"]: e["rows"] for _, e in ledger.inputs(ledger.runs())}["deep/late.txt"] == 1
    assert verify(str(catalog)) == []


def replay_config(night: Path, catalog: Path) -> RunConfig:
    return RunConfig(inputs=(str(night),), output=str(catalog), night=NIGHT, tasks=("toy",))
