from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from datetime import date, datetime
from pathlib import Path

import pytest

from pipeline.options import ConfigError, RunConfig, make_config, read_toml

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
        "workers": -1, "retries": -2, "engine": "spark",
        "order": 99, "threshold": 0.0, "targets": "/no/such", "bundles": {"galaxy_morphology": "/none"},
        "light_curves": {"tim": "t", "time_system": "lunar"},
    }  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        make_config(flags, {"colour": 1}, TASKS)
    text = str(caught.value)
    values = ("colour", "--input", "--output", "24.11.2026", "nope", "fp8", "tpu", "Spark", "'spark'",
              "threads", "workers", "-2", "99",
              "threshold", "/no/such", "/none", "'tim'", "lunar")  # fmt: skip
    for value in values:
        assert value in text
    assert len(caught.value.faults) == len(values)


def test_each_value_of_a_file_must_be_of_its_kind_and_all_are_told(tmp_path: Path) -> None:
    path = tmp_path / "n.toml"
    path.write_text(
        'inputs = 3\noutput = 5\nbundles = "x"\nlight_curves = "x"\ndevice = 3\nnight = 20261124\nstrict = "no"\n'
        'force = 0\nthreads = true\nworkers = "2"\norder = 3.0\ntasks = 3\nthreshold = inf\ndtype = ["fp32"]\n'
        "targets = 1\nbeam_options = 1\nchecksums = 1\nembeddings = 1\nrunner = 1\nregistry = 1\n"
        'engine = 1\nretries = "often"\naccelerator = 1\nmin_ram = 1\ndetach = 1\n'
    )
    content = read_toml(str(path))
    assert set(content) == {field.name for field in fields(RunConfig)}
    with pytest.raises(ConfigError) as caught:
        make_config({}, content, TASKS)
    assert len(caught.value.faults) == len(content), caught.value.faults
    for name, value in content.items():
        assert any(repr(value) in fault for fault in caught.value.faults), name
    with pytest.raises(ConfigError, match="--tasks 3 is not"):  # even where a flag wins over it
        make_config({"tasks": ["stellar_parameters"]}, {"inputs": "a", "output": "o", "tasks": 3}, TASKS)
    with pytest.raises(ConfigError, match=r"--bundle \{'stellar_parameters': 3\} is not"):
        make_config({}, {"inputs": "a", "output": "o", "bundles": {"stellar_parameters": 3}}, TASKS)


def test_a_task_that_is_named_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="'stellar_parameters' is named 2 times"):
        make_config({"inputs": ["a"], "output": "o", "tasks": ["stellar_parameters"] * 2}, {}, TASKS)


@pytest.mark.parametrize("device", ["cuda:abc", "cudax", "cuda:", "CPU", ""])
def test_devices_are_spelled_out(device: str) -> None:
    with pytest.raises(ConfigError, match="--device"):
        make_config({"inputs": ["a"], "output": "o", "device": device}, {}, TASKS)


def test_urls_that_nothing_can_open_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        make_config({"inputs": ["foo://x", "@bar://list"], "output": "baz://c", "targets": "qux://t"}, {}, TASKS)
    text = str(caught.value)
    assert all(f"--{flag}" in text for flag in ("input: 'foo", "input: 'bar", "output: 'baz", "targets: 'qux"))


def test_an_output_can_have_any_name_that_is_text() -> None:
    assert make_config({"inputs": ["a"], "output": "ü\u3000\xa0x"}, {}, TASKS).output
    with pytest.raises(ConfigError, match=r"--output .* not UTF-8"):
        make_config({"inputs": ["a"], "output": "caf\udce9"}, {}, TASKS)


def test_a_date_of_toml_is_a_night() -> None:
    file = {"inputs": "a", "output": "o", "night": date(2026, 11, 24)}
    assert make_config({}, file, TASKS).night == "2026-11-24"
    with pytest.raises(ConfigError, match="is not a date like"):
        make_config({}, file | {"night": datetime(2026, 11, 24)}, TASKS)


@pytest.mark.parametrize("night", ["2026-02-30", "20261124", "2026-1-1", "", "2026-W01-1", "2026-11-2\u0664"])
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


@pytest.mark.parametrize("workers", [0, "many", 2.5])
def test_workers_are_a_number_or_auto(workers: object) -> None:
    with pytest.raises(ConfigError, match=f"--workers {workers!r} is not"):
        make_config({"inputs": ["a"], "output": "o", "workers": workers}, {}, TASKS)
    for good in (3, "auto"):
        assert make_config({"inputs": ["a"], "output": "o", "workers": good}, {}, TASKS).workers == good
