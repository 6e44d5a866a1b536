"""Command-line options and a TOML file to one frozen ``RunConfig``, all faults reported together."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pipeline.engines import ENGINES, Wanted, detach_faults, engine_faults
from pipeline.option_kinds import AUTO, flag, take
from pipeline.sources import is_night
from transforms.locations import location_fault
from transforms.readers.light_curve_columns import DECLARED, SYSTEMS

DTYPES = ("fp32", "bf16", "fp16", AUTO)
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
        Folder of the model of a task, where it is not the one in production, or the one that ships.
    registry : str
        Folder or URL of the models in production; empty for those that ship.
    device, dtype : str
        Where and in which precision the models run.
    threads : int
        Torch threads of one worker.
    engine : str
        Preset that names the runner and its options (``pipeline.engines``); empty for the runner's own.
    runner : str
        Beam runner.
    workers : int or str
        Worker processes of the local runner, parallel parts on Flink, machines at most on Dataflow; ``"auto"``: as
        many as pay, given the inputs and the machine, or as the engine is configured.
    retries : int or str
        How often a night that the engine broke off is done again under the same run id; ``"auto"``: as the preset says.
    accelerator, min_ram : str
        What the inference step is given where the engine grants it, in the words of Beam's resource hints.
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
    embeddings : bool
        Write the model's embedding of each object.
    checksums : bool
        Refuse FITS files whose own checksums do not hold.
    strict, force : bool
        Treat rejects as an error; process again what is done already.
    detach : bool
        Submit the job and go; ``nightcat finish`` commits.
    """

    inputs: tuple[str, ...] = ()
    output: str = ""
    night: str | None = None
    tasks: tuple[str, ...] = ()
    bundles: Mapping[str, str] = field(default_factory=dict)
    registry: str = ""
    device: str = "auto"
    dtype: str = "fp32"
    threads: int = 1
    engine: str = ""
    runner: str = "FnApiRunner"
    workers: int | str = AUTO
    retries: int | str = AUTO
    accelerator: str = ""
    min_ram: str = ""
    beam_options: tuple[str, ...] = ()
    order: int | None = None
    targets: str = ""
    threshold: float = 4.5
    light_curves: Mapping[str, Any] = field(default_factory=dict)
    embeddings: bool = False
    checksums: bool = True
    strict: bool = False
    force: bool = False
    detach: bool = False

    def wanted(self) -> Wanted:
        """What the engine is asked for.

        Returns
        -------
        Wanted
            Runner, options, and the places that its workers must see.
        """
        inputs = {f"--input {spec}": spec for spec in self.inputs if not spec.startswith("@")}  # a list is read here
        places = {**inputs, "--output": self.output, "--targets": self.targets}
        workers = self.workers if isinstance(self.workers, int) else 0
        return Wanted(
            runner=self.runner, options=self.beam_options, workers=workers, places=places, hints=bool(self.accelerator)
        )

    @property
    def remote(self) -> bool:
        """Whether the workers may run on other machines than the driver.

        Returns
        -------
        bool
            True for Flink, Dataflow and a job server that the user named.
        """
        return self.runner in ("FlinkRunner", "DataflowRunner", "PortableRunner")

    def where(self) -> str:
        """The device that the workers are told to use.

        Returns
        -------
        str
            As asked for; for ``"auto"`` on other machines what the run asks the engine for: they must not choose each
            for itself, or the catalog would depend on which worker had an object.
        """
        if self.device != AUTO or not self.remote:
            return self.device
        return "cuda" if self.accelerator else "cpu"

    def hints(self) -> dict[str, str]:
        """Resource hints of the inference step.

        Returns
        -------
        dict of str to str
            Empty where none was asked for.
        """
        return {name: value for name in ("accelerator", "min_ram") if (value := getattr(self, name))}

    def predictor_options(self, device: str) -> dict[str, Any]:
        """How a model is loaded.

        Parameters
        ----------
        device : str
            Where it runs.

        Returns
        -------
        dict
            Keywords of ``finetune.predict.load_predictor``.
        """
        return {"device": device, "dtype": self.dtype, "threads": self.threads, "embeddings": self.embeddings}

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
            Plain values; the manifest keeps them, and a replay takes them up again.
        """
        asked = {"embeddings": True} if self.embeddings else {}
        return {**self.reader_options(), **self.measure_options(), "dtype": self.dtype, **asked}

    def identity(self) -> dict[str, Any]:
        """What ``result_options`` says, as far as it tells one result from another.

        Returns
        -------
        dict
            Plain values; a target list stands for its bytes, wherever it lies.

        Raises
        ------
        InputError
            Where the target list cannot be read.
        """
        options = self.result_options()
        if self.targets:
            from pipeline.sources import InputError, digest_and_size

            try:
                options["targets"] = digest_and_size(self.targets)[0]
            except OSError as error:
                raise InputError(f"--targets {self.targets!r} cannot be read: {error.strerror or error}") from error
        return options


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
    taken: dict[str, Any] = {}
    given: set[str] = set()
    for values in (file, flags):
        values = {name: value for name, value in values.items() if name in known and value is not None}
        right, wrong = take(values)
        taken |= right
        given |= {name for name in values if values[name]}
        faults += wrong
    taken["tasks"] = taken.get("tasks") or tuple(known_tasks)
    if taken.get("engine") in ENGINES:
        runner = ENGINES[taken["engine"]].runner
        if taken.setdefault("runner", runner) != runner:
            faults.append(f"--engine {taken['engine']} runs on {runner}, not on --runner {taken['runner']}")
    config = RunConfig(**taken)
    faults += [*_missing(given), *_check(config, known_tasks)]
    if faults:
        raise ConfigError(faults)
    return config


def _missing(given: Collection[str]) -> list[str]:
    needed = {
        "inputs": "a file, folder, glob, fsspec URL or @list.txt",
        "output": "the folder or URL of the catalog",
    }
    return [f"{flag(name)} is missing: {what}" for name, what in needed.items() if name not in given]


def _check(config: RunConfig, known_tasks: Sequence[str]) -> list[str]:
    faults: list[str] = []

    def need(ok: bool, sentence: str) -> None:
        if not ok:
            faults.append(sentence)

    urls = [("inputs", spec.removeprefix("@")) for spec in config.inputs]
    urls += [("output", config.output), ("targets", config.targets), ("registry", config.registry)]
    for name, url in urls:
        fault = location_fault(url)
        need(not fault, f"{flag(name)}: {fault}")
    need(_is_unicode(config.output), f"--output {config.output!r} has bytes that are not UTF-8")
    need(config.night is None or is_night(config.night), f"--night {config.night!r} is not a date like 2026-11-24")
    for task, times in Counter(config.tasks).items():
        need(task in known_tasks, f"--tasks: no task named {task!r}; there are {', '.join(known_tasks)}")
        need(times == 1, f"--tasks: {task!r} is named {times} times: each row would stand {times} times")
    for task, folder in config.bundles.items():
        need(task in known_tasks, f"--bundle: no task named {task!r}; there are {', '.join(known_tasks)}")
        need("://" in folder or Path(folder).is_dir(), f"--bundle {task}={folder}: no such folder")
    need(config.dtype in DTYPES, f"--dtype {config.dtype!r} is not one of {', '.join(DTYPES)}")
    need(
        re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]+)?", config.device) is not None,
        f"--device {config.device!r} is not one of auto, cpu, cuda, cuda:N, mps",
    )
    need(config.engine in ("", *ENGINES), f"--engine {config.engine!r} is not one of {', '.join(ENGINES)}")
    need(config.runner in RUNNERS, f"--runner {config.runner!r} is not one of {', '.join(RUNNERS)}")
    faults += engine_faults(config.wanted())
    if config.detach:
        faults += detach_faults(config.wanted())
        need(
            config.retries in (AUTO, 0),
            f"--retries {config.retries!r}: nobody waits for a detached run to do it again; leave it out",
        )
    need(
        config.retries == AUTO or (isinstance(config.retries, int) and config.retries >= 0),
        f"--retries {config.retries!r} is not auto or a whole number",
    )
    need(config.threads >= 1, f"--threads {config.threads!r} is not a whole number of at least 1")
    need(
        config.workers == AUTO or (isinstance(config.workers, int) and config.workers >= 1),
        f"--workers {config.workers!r} is not auto or a whole number of at least 1",
    )
    need(
        config.order is None or 0 <= config.order <= 10,
        f"--order {config.order!r} is not a whole number from 0 to 10",
    )
    need(config.threshold > 0, f"--threshold {config.threshold!r} is not a number above 0")
    need(
        not config.targets or "://" in config.targets or Path(config.targets).is_file(),
        f"--targets {config.targets!r}: no such file",
    )
    for key in sorted(set(config.light_curves) - set(DECLARED)):
        faults.append(f"--light-curve-columns: unknown key {key!r}; allowed are {', '.join(DECLARED)}")
    system = config.light_curves.get("time_system")
    need(
        system is None or system in SYSTEMS,
        f"--light-curve-columns time_system={system!r} is not one of {', '.join(SYSTEMS)}",
    )
    return faults


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
