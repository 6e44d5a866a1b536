"""Command-line options and a TOML file to one frozen ``RunConfig``, all faults reported together."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Any

from transforms.readers.light_curve_columns import DECLARED, SYSTEMS

DTYPES = ("fp32", "bf16")
RUNNERS = ("FnApiRunner", "DirectRunner", "PrismRunner", "PortableRunner", "FlinkRunner", "DataflowRunner")


class ConfigError(ValueError):
    """Everything that is wrong with the options, one sentence each.

    Parameters
    ----------
    faults : sequence of str
        Sentences that name the option, its value and what is allowed.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """All that a run depends on.

    Parameters
    ----------
    inputs : tuple of str
        Files, folders, globs, fsspec URLs or ``@list.txt``.
    output : str
        Root of the catalog.
    night : str or None
        ``YYYY-MM-DD``; None takes it from the folder names.
    tasks : tuple of str
        Names of the tasks to run.
    bundles : mapping of str to str
        Folder of the model of a task, where it is not the one that ships.
    device, dtype : str
        Where and in which precision the models run.
    threads : int
        Torch threads of one worker.
    runner : str
        Beam runner.
    workers : int
        Worker processes of the local runner.
    beam_options : tuple of str
        Passed to Beam as they are.
    order : int or None
        HEALPix order of the catalog's pixels, fixed when it is created.
    targets : str
        Target list to cut stamps at.
    threshold : float
        Detection threshold, signal-to-noise ratio after the matched filter.
    light_curves : mapping of str to str
        Declared columns of light-curve tables.
    checksums : bool
        Refuse FITS files whose own checksums do not hold.
    strict, force : bool
        Treat rejects as an error; process again what is done already.
    """

    inputs: tuple[str, ...] = ()
    output: str = ""
    night: str | None = None
    tasks: tuple[str, ...] = ()
    bundles: Mapping[str, str] = field(default_factory=dict)
    device: str = "auto"
    dtype: str = "fp32"
    threads: int = 1
    runner: str = "FnApiRunner"
    workers: int = 1
    beam_options: tuple[str, ...] = ()
    order: int | None = None
    targets: str = ""
    threshold: float = 4.5
    light_curves: Mapping[str, Any] = field(default_factory=dict)
    checksums: bool = True
    strict: bool = False
    force: bool = False

    def reader_options(self) -> dict[str, Any]:
        """Options of the readers.

        Returns
        -------
        dict
            Plain values, for ``Source``.
        """
        options: dict[str, Any] = {"light_curves": dict(self.light_curves)} if self.light_curves else {}
        return options if self.checksums else {**options, "checksums": False}

    def measure_options(self) -> dict[str, Any]:
        """Options of the classical steps.

        Returns
        -------
        dict
            Plain values, for ``measure``.
        """
        options: dict[str, Any] = {"threshold": self.threshold}
        if self.targets:
            options["targets"] = self.targets
        return options

    def result_options(self) -> dict[str, Any]:
        """Everything but the inputs and the models that changes what a row says.

        Returns
        -------
        dict
            Plain values; part of the run's identity.
        """
        return {**self.reader_options(), **self.measure_options(), "dtype": self.dtype, "tasks": list(self.tasks)}


def read_toml(path: str) -> dict[str, Any]:
    """Read a configuration file.

    Parameters
    ----------
    path : str
        TOML; keys are the fields of ``RunConfig``.

    Returns
    -------
    dict
        Its content.

    Raises
    ------
    ConfigError
        Where it is not there or is not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"--config {path!r} cannot be read: {error}"]) from error


def make_config(flags: Mapping[str, Any], file: Mapping[str, Any], known_tasks: Sequence[str]) -> RunConfig:
    """Merge flags over a file over defaults, and check everything.

    Parameters
    ----------
    flags : mapping
        Values given on the command line; None where not given.
    file : mapping
        Content of the TOML file.
    known_tasks : sequence of str
        Names of all tasks.

    Returns
    -------
    RunConfig
        Checked.

    Raises
    ------
    ConfigError
        With every fault.
    """
    known = {f.name for f in fields(RunConfig)}
    faults = [
        f"configuration file: unknown key {key!r}; allowed are {', '.join(sorted(known))}"
        for key in sorted(set(file) - known)
    ]
    values = {k: v for k, v in file.items() if k in known}
    values.update({k: v for k, v in flags.items() if k in known and v is not None})
    for name in ("inputs", "tasks", "beam_options"):
        if name in values:
            given = values[name]
            values[name] = (given,) if isinstance(given, str) else tuple(given)
    values["tasks"] = values.get("tasks") or tuple(known_tasks)
    try:
        config = RunConfig(**values)
        faults += _check(config, known_tasks)
    except TypeError as error:
        faults.append(f"an option has a value of the wrong type: {error}")
    if faults:
        raise ConfigError(faults)
    return config


def _check(config: RunConfig, known_tasks: Sequence[str]) -> list[str]:
    faults: list[str] = []

    def need(ok: bool, sentence: str) -> None:
        if not ok:
            faults.append(sentence)

    need(bool(config.inputs), "--input is missing: a file, folder, glob, fsspec URL or @list.txt")
    need(bool(config.output), "--output is missing: the folder or URL of the catalog")
    need(config.night is None or _is_date(config.night), f"--night {config.night!r} is not a date like 2026-11-24")
    for task in config.tasks:
        need(task in known_tasks, f"--tasks: no task named {task!r}; there are {', '.join(known_tasks)}")
    for task, folder in config.bundles.items():
        need(task in known_tasks, f"--bundle: no task named {task!r}; there are {', '.join(known_tasks)}")
        need("://" in folder or Path(folder).is_dir(), f"--bundle {task}={folder}: no such folder")
    need(config.dtype in DTYPES, f"--dtype {config.dtype!r} is not one of {', '.join(DTYPES)}")
    need(
        config.device in ("auto", "cpu", "mps") or config.device.split(":")[0] == "cuda",
        f"--device {config.device!r} is not one of auto, cpu, cuda, cuda:N, mps",
    )
    need(config.runner in RUNNERS, f"--runner {config.runner!r} is not one of {', '.join(RUNNERS)}")
    for name in ("threads", "workers"):
        value = getattr(config, name)
        need(isinstance(value, int) and value >= 1, f"--{name} {value!r} is not a whole number of at least 1")
    need(
        config.order is None or (isinstance(config.order, int) and 0 <= config.order <= 10),
        f"--order {config.order!r} is not a whole number from 0 to 10",
    )
    need(
        isinstance(config.threshold, int | float) and config.threshold > 0,
        f"--threshold {config.threshold!r} is not a number above 0",
    )
    need(
        not config.targets or "://" in config.targets or Path(config.targets).is_file(),
        f"--targets {config.targets!r}: no such file",
    )
    need(isinstance(config.checksums, bool), f"checksums {config.checksums!r} is not true or false")
    for key in sorted(set(config.light_curves) - set(DECLARED)):
        faults.append(f"--light-curve-columns: unknown key {key!r}; allowed are {', '.join(DECLARED)}")
    system = config.light_curves.get("time_system")
    need(
        system is None or system in SYSTEMS,
        f"--light-curve-columns time_system={system!r} is not one of {', '.join(SYSTEMS)}",
    )
    return faults


def _is_date(text: object) -> bool:
    if not isinstance(text, str) or len(text) != 10:
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
