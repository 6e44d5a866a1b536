from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from pipeline.options import ConfigError, make_config, read_toml

TASKS = ("galaxy_morphology", "stellar_parameters")


def test_flags_win_over_file_over_defaults() -> None:
    config = make_config(
        {"inputs": ["a"], "output": "o", "threads": 2, "order": None}, {"threads": 4, "order": 5}, TASKS
    )
    assert (config.threads, config.order, config.dtype, config.tasks) == (2, 5, "fp32", TASKS)
    with pytest.raises(FrozenInstanceError):
        config.threads = 3  # type: ignore[misc]


def test_all_faults_are_reported_at_once_with_value_and_what_is_allowed() -> None:
    flags = {
        "night": "24.11.2026", "tasks": ["nope"], "dtype": "fp8", "device": "tpu", "runner": "Spark", "threads": 0,
        "workers": -1, "order": 99, "threshold": 0.0, "targets": "/no/such", "bundles": {"galaxy_morphology": "/none"},
        "light_curves": {"tim": "t", "time_system": "lunar"},
    }  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        make_config(flags, {"colour": 1}, TASKS)
    text = str(caught.value)
    values = ("colour", "--input", "--output", "24.11.2026", "nope", "fp8", "tpu", "Spark", "threads", "workers", "99",
              "threshold", "/no/such", "/none", "'tim'", "lunar")  # fmt: skip
    for value in values:
        assert value in text
    assert len(caught.value.faults) == len(values)


@pytest.mark.parametrize("night", ["2026-02-30", "20261124", "2026-1-1", ""])
def test_nights_are_real_dates(night: str) -> None:
    with pytest.raises(ConfigError, match="night"):
        make_config({"inputs": ["a"], "output": "o", "night": night}, {}, TASKS)


def test_toml(tmp_path: Path) -> None:
    path = tmp_path / "n.toml"
    path.write_text('inputs = ["x"]\noutput = "o"\n[light_curves]\ntime = "hjd"\ntime_system = "hjd"\n')
    config = make_config({}, read_toml(str(path)), TASKS)
    assert config.reader_options() == {"light_curves": {"time": "hjd", "time_system": "hjd"}}
    assert make_config({"checksums": False}, read_toml(str(path)), TASKS).reader_options()["checksums"] is False
    path.write_text('inputs = ["x"]\noutput = "o"\nchecksums = "no"\n')
    with pytest.raises(ConfigError, match="checksums 'no' is not true or false"):
        make_config({}, read_toml(str(path)), TASKS)
    path.write_text("inputs = [")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_toml(str(path))
