"""Engines that the one graph runs on: presets of options, what each needs, and combinations that lose data.

What differs between engines is options, never the graph. A preset lies under what the user hands to Beam after ``--``,
which comes last and wins. All that is wrong is told at the door, before a file is read.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

PRISM = "NIGHTCAT_PRISM"
FLINK_JAR = "NIGHTCAT_FLINK_JAR"
LOCAL = ("", "file", "local", "memory")  #: Schemes of places that only this machine sees.
ADDED = ("experiments", "job_server_jvm_properties")  #: Options of Beam of which every one counts, not the last.
#: What Java 17 must open for a job server to stream; batch needs none of it.
OPENED = ("lang", "io", "nio", "net", "time", "util", "lang.reflect", "util.concurrent")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What an engine is asked for: those parts of a configuration that it depends on.

    Parameters
    ----------
    runner : str
        Beam runner.
    options : tuple of str
        That the user hands to Beam.
    workers : int
        Processes, or parallel parts of the work; 0 leaves it to the engine.
    places : mapping of str to str
        URLs by the name of the option that gives them.
    unbounded : bool
        Whether the graph reads from a stream without an end.
    hints : bool
        Whether an accelerator is asked for, for the inference step.
    """

    runner: str
    options: tuple[str, ...] = ()
    workers: int = 0
    places: Mapping[str, str]
    unbounded: bool = False
    hints: bool = False

    @property
    def given(self) -> dict[str, str]:
        """Options of Beam that the user gives, by name, in their last form; an option without a value has ``""``.

        Returns
        -------
        dict of str to str
            Names without dashes at the front.
        """
        found: dict[str, str] = {}
        name = ""
        for text in self.options:
            if text.startswith("--"):
                name, _, value = text.removeprefix("--").partition("=")
                found[name] = value
            elif name:
                found[name] = text
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """A documented preset.

    Parameters
    ----------
    name, runner : str
        Its name on the command line, and the Beam runner.
    what : str
        A sentence on what it is for.
    flags : callable
        ``flags(wanted) -> options`` of Beam that lie under those of the user.
    faults : callable
        ``faults(wanted) -> sentences``: what is absent, and what would lose data.
    retries : int
        How often a run that the engine broke off is done again, under the same run id.
    """

    name: str
    runner: str
    what: str
    flags: Callable[[Wanted], list[str]]
    faults: Callable[[Wanted], list[str]]
    retries: int = 0


def engine_of(runner: str) -> Engine:
    """The engine of a runner.

    Parameters
    ----------
    runner : str
        Beam's name.

    Returns
    -------
    Engine
        One without preset for a runner that has none.
    """
    found = [engine for engine in ENGINES.values() if engine.runner == runner]
    return found[0] if found else Engine(name="", runner=runner, what="", flags=_nothing, faults=_stream_faults)


def engine_flags(wanted: Wanted) -> list[str]:
    """Options of the preset, without those that the user gives.

    Parameters
    ----------
    wanted : Wanted
        What is asked for.

    Returns
    -------
    list of str
        Options.
    """
    given = set(wanted.given) - set(ADDED)
    return [flag for flag in engine_of(wanted.runner).flags(wanted) if _name(flag) not in given]


def engine_faults(wanted: Wanted) -> list[str]:
    """All that is wrong with an engine and its options.

    Parameters
    ----------
    wanted : Wanted
        What is asked for.

    Returns
    -------
    list of str
        Sentences that name the option and say why.
    """
    return engine_of(wanted.runner).faults(wanted)


def detach_faults(wanted: Wanted) -> list[str]:
    """Why a job would not outlive the process that submits it.

    Parameters
    ----------
    wanted : Wanted
        What is asked for.

    Returns
    -------
    list of str
        Sentences; empty for an engine that runs elsewhere, with workers that do.
    """
    if wanted.runner == "DataflowRunner":
        return []
    if wanted.runner not in ("FlinkRunner", "PortableRunner"):
        return [
            f"--detach: {wanted.runner} ends with the command that has started it; leave --detach out, or use "
            "--engine flink with a job server of its own, or --engine dataflow"
        ]
    faults = []
    if wanted.given.get("job_endpoint", "embed") == "embed":
        faults.append(
            f"--detach: a job server that {wanted.runner} starts ends with the command; name one that goes on: -- "
            "--job_endpoint=HOST:PORT"
        )
    # what Beam takes for Flink where neither workers nor a cluster are named
    silent = wanted.runner == "FlinkRunner" and wanted.given.get("flink_master", "[auto]").startswith("[")
    if wanted.given.get("environment_type", "LOOPBACK" if silent else "DOCKER") == "LOOPBACK":
        faults.append(
            "--detach: workers in LOOPBACK end with the command; name others: -- --environment_type=EXTERNAL "
            "--environment_config=HOST:PORT, or DOCKER"
        )
    return faults


def find_prism() -> str:
    """Find the Prism binary: in ``NIGHTCAT_PRISM``, beside the interpreter, on the path.

    Returns
    -------
    str
        Its path; empty where there is none. Beam would fetch one from the internet, without a time-out.
    """
    beside = Path(sys.executable).parent / "prism"
    named = os.environ.get(PRISM, "")
    return named or (str(beside) if beside.is_file() else shutil.which("prism") or "")


def find_flink_jar() -> str:
    """The job server of Flink that ``NIGHTCAT_FLINK_JAR`` names.

    Returns
    -------
    str
        Its path; empty where the variable is not set.
    """
    return os.environ.get(FLINK_JAR, "")


def _name(flag: str) -> str:
    return flag.removeprefix("--").partition("=")[0]


def _nothing(wanted: Wanted) -> list[str]:
    return []


def _prism_flags(wanted: Wanted) -> list[str]:
    found = find_prism()
    return [*([f"--prism_location={found}"] if found else []), "--environment_type=LOOPBACK"]


def _prism_faults(wanted: Wanted) -> list[str]:
    place = wanted.given.get("prism_location") or find_prism()
    if wanted.workers > 1:
        return [f"--workers {wanted.workers}: {wanted.runner} gives a night one worker process; leave it out"]
    if "job_endpoint" in wanted.given:
        return _stream_faults(wanted)
    if not place:
        return [
            f"{wanted.runner}: there is no prism binary; `make prism` builds one (it needs Go), or name it: the "
            f"variable {PRISM}, or -- --prism_location=PATH"
        ]
    if "://" not in place and not Path(place).is_file():
        return [f"{wanted.runner}: the prism binary {place!r} is not there"]
    return _stream_faults(wanted)


def _flink_flags(wanted: Wanted) -> list[str]:
    flags = [f"--parallelism={wanted.workers}"] if wanted.workers else []
    if "job_endpoint" not in wanted.given:
        jar = find_flink_jar()
        opened = [f"--job_server_jvm_properties=--add-opens=java.base/java.{p}=ALL-UNNAMED" for p in OPENED]
        flags += [*([f"--flink_job_server_jar={jar}"] if jar else []), *(opened if wanted.unbounded else [])]
    if wanted.unbounded:
        flags += ["--streaming", "--checkpointing_interval=10000", "--finish_bundle_before_checkpointing"]
        flags += ["--max_bundle_size=640"]
    return flags


def _flink_faults(wanted: Wanted) -> list[str]:
    given, faults = wanted.given, []
    if "job_endpoint" not in given:
        jar = given.get("flink_job_server_jar") or find_flink_jar()
        if not jar:
            faults.append(
                f"{wanted.runner}: there is no job server; name its jar (beam-runners-flink-<Flink>-job-server of "
                f"Beam's release) by the variable {FLINK_JAR} or -- --flink_job_server_jar=PATH, or one that runs: "
                "-- --job_endpoint=HOST:PORT"
            )
        elif "://" not in jar and not Path(jar).is_file():
            faults.append(f"{wanted.runner}: the job server {jar!r} is not there")
        if not _java():
            faults.append(f"{wanted.runner}: the job server needs Java, and there is none on the path")
    master = given.get("flink_master", "[auto]")
    if given.get("environment_type") == "LOOPBACK" and not master.startswith("[") and not _here(master):
        faults.append(
            f"--environment_type=LOOPBACK: the workers of {master} would call back to this machine; use EXTERNAL with "
            "a pool on each, or DOCKER"
        )
    return [*faults, *_checkpoint_faults(wanted), *_stream_faults(wanted)]


def _checkpoint_faults(wanted: Wanted) -> list[str]:
    """Combinations with which a Flink loses records or never begins; each was seen to (docs/engines.md)."""
    given, faults = wanted.given, []
    checkpoints = int(given.get("checkpointing_interval") or 0) > 0 if _whole(given, "checkpointing_interval") else None
    if checkpoints is None:
        return [f"--checkpointing_interval={given['checkpointing_interval']} is not a whole number of milliseconds"]
    if checkpoints and not wanted.unbounded:
        faults.append(
            "--checkpointing_interval: a night has an end, and with checkpoints its last windows never close; leave it "
            "out: a night that is broken off is run again under the same run id"
        )
    if checkpoints and wanted.unbounded and given.get("finish_bundle_before_checkpointing") == "false":
        faults.append(
            "--finish_bundle_before_checkpointing=false: with checkpoints and without it Flink never opens the source"
        )
    if wanted.unbounded and "shutdown_sources_after_idle_ms" in given:
        faults.append(
            "--shutdown_sources_after_idle_ms: with a stream it loses what was read since the last checkpoint, without "
            "a word; leave it out"
        )
    if wanted.unbounded and given.get("max_bundle_size") == "1":
        faults.append("--max_bundle_size=1: after a restart the last records are lost and others come twice")
    return faults


def _whole(given: Mapping[str, str], name: str) -> bool:
    return not given.get(name) or given[name].isdigit()


def _stream_faults(wanted: Wanted) -> list[str]:
    """What no runner does well."""
    if wanted.runner == "FnApiRunner" and wanted.unbounded:
        return ["FnApiRunner runs a stream to its end before it passes anything on: use prism, flink or dataflow"]
    return []


def _dataflow_flags(wanted: Wanted) -> list[str]:
    flags = ["--experiments=use_runner_v2", "--experiments=no_use_multiple_sdk_containers"]
    if "sdk_container_image" in wanted.given:
        flags.append("--sdk_location=container")
    if wanted.workers:
        flags.append(f"--max_num_workers={wanted.workers}")
    return [*flags, "--streaming"] if wanted.unbounded else flags


def _dataflow_faults(wanted: Wanted) -> list[str]:
    given = wanted.given
    faults = [
        f"{wanted.runner} needs -- --{name}={example}"
        for name, example in {"project": "ID", "region": "REGION", "temp_location": "gs://BUCKET/tmp"}.items()
        if not given.get(name)
    ]
    if not {"sdk_container_image", "setup_file", "extra_package"} & set(given):
        faults.append(
            f"{wanted.runner}: its workers need nightcat: -- --sdk_container_image=IMAGE (deploy/dataflow), or "
            "-- --setup_file=./setup.py"
        )
    if importlib.util.find_spec("apitools") is None:
        faults.append(f"{wanted.runner} needs the extra: pip install 'nightcat[gcp]'")
    for option, url in wanted.places.items():
        if url and _scheme(url) in LOCAL:
            faults.append(f"{option} {url!r} lies on this machine, which the workers of {wanted.runner} do not see")
    if wanted.hints and any("worker_accelerator" in option for option in wanted.options):
        faults.append(
            f"{wanted.runner}: an accelerator for the whole job (worker_accelerator) and --accelerator for the "
            "inference step exclude one another"
        )
    return [*faults, *_stream_faults(wanted)]


def _scheme(url: str) -> str:
    return url.split("://", 1)[0] if "://" in url else ""


def _java() -> str:
    home = os.environ.get("JAVA_HOME", "")
    return shutil.which("java") or (shutil.which(str(Path(home) / "bin" / "java")) if home else "") or ""


def _here(master: str) -> bool:
    host = master.removeprefix("http://").removeprefix("https://").split(":")[0]
    return host in ("localhost", "127.0.0.1")


ENGINES: Mapping[str, Engine] = {
    engine.name: engine
    for engine in (
        Engine(
            name="local", runner="FnApiRunner", flags=_nothing, faults=_stream_faults,
            what="the machine at hand: one process for a small night, as many as there are processors for a large one",
        ),
        Engine(
            name="prism", runner="PrismRunner", flags=_prism_flags, faults=_prism_faults,
            what="Beam's portable runner in Go, on the machine at hand: a second engine for nights, and streams",
        ),
        Engine(
            name="flink", runner="FlinkRunner", flags=_flink_flags, faults=_flink_faults, retries=2,
            what="a Flink cluster, or an embedded one: nights in batch, and streams with checkpoints",
        ),
        Engine(
            name="dataflow", runner="DataflowRunner", flags=_dataflow_flags, faults=_dataflow_faults,
            what="Google Cloud Dataflow: nights in batch, and streams",
        ),
    )
}  # fmt: skip
