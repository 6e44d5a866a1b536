"""Costs: the time of runs, a file of prices, and the arithmetic between them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import pipeline.cost
from pipeline.cli import main
from pipeline.cost import CostError, Sample, estimate, measure, read_prices
from tests import toy_night

PRICES = """
currency = "EUR"
[machines.small]
per_hour = 0.10
processes = 2
[machines.large]
per_hour = 0.50
processes = 8
speed = 1.5
startup_seconds = 0
[storage]
per_gb_month = 0.02
"""


@pytest.fixture
def prices(tmp_path: Path) -> str:
    (tmp_path / "prices.toml").write_text(PRICES)
    return str(tmp_path / "prices.toml")


def runs(monkeypatch: pytest.MonkeyPatch, *points: tuple[int, float, int]) -> None:
    made = [
        SimpleNamespace(
            manifest={"timing": {"seconds": s, "processes": n}, "counts": {"fresh": {"rows": rows}}},
            files=[SimpleNamespace(size=300 * rows)],
        )
        for rows, s, n in points
    ]
    monkeypatch.setattr(pipeline.cost, "Ledger", lambda catalog: SimpleNamespace(runs=lambda: made))


def test_fixed_and_growing_time_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    runs(monkeypatch, (1000, 10 + 20.0, 1), (4000, (10 + 80.0) / 2, 2), (20_000, 10 + 400.0, 1))
    sample = measure("x")
    assert sample.fixed == pytest.approx(10)
    assert sample.each == pytest.approx(0.02)
    assert sample.stored == pytest.approx(300)
    runs(monkeypatch, (1000, 30.0, 1))
    assert measure("x").each == pytest.approx(0.03), "one size: all of it counts as growing"
    runs(monkeypatch, (0, 30.0, 1))
    with pytest.raises(CostError, match="no run with a time"):
        measure("x")


def test_the_arithmetic(prices: str) -> None:
    sample = Sample(runs=2, objects=9, fixed=10.0, each=0.02, stored=500.0)
    large, small = estimate(sample, read_prices(prices), 1_000_000, 2)
    assert (large["machine"], small["machine"]) == ("large", "small"), "the cheapest first"
    hours = ((10 * 2 * 2 + 20_000) / 2 + 2 * 300) / 3600
    assert small["machine_hours"] == pytest.approx(hours)
    assert small["hours"] == pytest.approx(hours / 2)
    assert small["cost"] == pytest.approx(0.10 * hours)
    assert small["cost_year"] == pytest.approx(36.5 * hours)
    assert large["machine_hours"] == pytest.approx((10 * 2 * 8 + 20_000) / 12 / 3600)
    assert small["storage_month"] == pytest.approx(0.5 * 0.02)


def test_every_fault_of_the_prices_is_told(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text('[machines.a]\nprocesses = 0\nper_hour = "x"\ncolour = 1\n[storage]\nper_gb_month = -1\n')
    with pytest.raises(CostError) as caught:
        read_prices(str(path))
    assert len(caught.value.faults) == 4
    for word in ("processes 0", "per_hour 'x'", "'colour'", "per_gb_month -1"):
        assert any(word in fault for fault in caught.value.faults), word
    path.write_text("currency = 3\n")
    with pytest.raises(CostError, match=r"no table \[machines.NAME\]"):
        read_prices(str(path))


def test_the_command(prices: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    toy_night.install(monkeypatch.setattr)
    try:
        night = toy_night.write_night(tmp_path / "night")
        toy_night.run(night, output=tmp_path / "catalog", workers=1)
    finally:
        toy_night.forget()
    command = ["cost", str(tmp_path / "catalog"), "--prices", prices, "--objects", "1000000"]
    assert main([*command, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["sample"]["runs"] == 1
    assert said["sample"]["each"] > 0
    assert [row["machine"] for row in said["machines"]]
    assert main(command) == 0
    assert "process ms an object" in " ".join(capsys.readouterr().out.split())
    assert main([*command[:-1], "0"]) == 2
    assert "--objects 0" in capsys.readouterr().err
    assert main(["cost", str(tmp_path), *command[2:]]) == 2
