"""Run the graph on a Beam runner and hand back its counters; what differs between engines is options."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence

import apache_beam as beam
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.options import ConfigError, RunConfig
from pipeline.store import OutputError
from pipeline.survey import Plan, survey
from transforms.records import FileRef

WORTH_SECONDS = 40.0  #: Work that pays for another process, which spends some ten seconds on its imports.
#: About what a file costs, and what it costs more for its size: pixels weigh little, points of light curves much.
SECONDS_A_FILE, SECONDS_A_BYTE, SECONDS_A_BYTE_OF_A_TABLE = 0.02, 1e-6, 1e-5
WORKER_BYTES = 2_500_000_000  #: Memory of a process with all models and one large image.

#: How the text of an error says that the disk is full or read-only: as a worker process tells it, there is nothing
#: but text, and Beam adds the step behind it.
_OUTPUT = re.compile(
    r"\b(?:OutputError: |OSError: (?=\[Errno (?:28|30|122)\]))(.+?)(?: \[while running .*\])?(?:\\n|$)", re.MULTILINE
)


class EngineError(RuntimeError):
    """The runner failed; nothing was committed."""


def worker_count(config: RunConfig, files: Sequence[FileRef]) -> int:
    """How many processes of the local runner a night is given.

    Parameters
    ----------
    config : RunConfig
        The run.
    files : sequence of FileRef
        What is to be read.

    Returns
    -------
    int
        What was asked for. For ``"auto"`` one process, until the files promise more work than another process needs to
        start; then as many as there are processors and memory for. The catalog's bytes do not depend on it.
    """
    if isinstance(config.workers, int):
        return config.workers
    if sum(map(_seconds, files)) < WORTH_SECONDS:
        return 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(_processors(), memory // WORKER_BYTES))


def _seconds(file: FileRef) -> float:
    """A guess from the name, which decides nothing but the number of processes."""
    table = re.search(r"\.(?:csv|ecsv|txt|dat|parquet)(?:\.gz)?$", file.source, re.IGNORECASE)
    return SECONDS_A_FILE + file.size * (SECONDS_A_BYTE_OF_A_TABLE if table else SECONDS_A_BYTE)


def _processors() -> int:
    """Processors that this process may use; all of the machine's where the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def beam_flags(config: RunConfig, workers: int) -> list[str]:
    """Options of Beam for a run.

    Parameters
    ----------
    config : RunConfig
        The run.
    workers : int
        Processes of the local runner.

    Returns
    -------
    list of str
        Flags; those of the user come last and win.
    """
    flags = [f"--runner={config.runner}", "--no_save_main_session"]
    if config.runner in ("FnApiRunner", "DirectRunner") and workers > 1:
        flags += [f"--direct_num_workers={workers}", "--direct_running_mode=multi_processing"]
    return [*flags, *config.beam_options]


def run_graph(config: RunConfig, plan: Plan) -> dict[str, int]:
    """Build the graph of one night and run it to its end.

    Parameters
    ----------
    config : RunConfig
        Runner and options.
    plan : Plan
        What to process.

    Returns
    -------
    dict of str to int
        Counters, such as ``"read.done"``.

    Raises
    ------
    ConfigError
        Where Beam refuses the options of the runner.
    EngineError
        Where the runner did not finish.
    OutputError
        Where the output could not be written.
    """
    pipeline = _pipeline(config, worker_count(config, plan.files))
    try:
        survey(pipeline, plan)
        result = pipeline.run()
        state = result.wait_until_finish()
    except SystemExit as error:
        raise _refused(config) from error
    except Exception as error:  # the runner wraps whatever a worker raised
        raise _translated(error) from error
    finally:
        shutil.rmtree(pipeline.local_tempdir, ignore_errors=True)  # Beam leaves it where the graph was never run
    if str(state) != "DONE":
        raise EngineError(f"{config.runner} ended in state {state}")
    counters = result.metrics().query(MetricsFilter().with_namespace("nightcat"))["counters"]
    return {c.key.metric.name: int(c.result) for c in counters}


def _pipeline(config: RunConfig, workers: int) -> beam.Pipeline:
    """An empty graph; what Beam says of wrong options is told as a fault of the options."""
    try:
        return beam.Pipeline(options=PipelineOptions(beam_flags(config, workers)))
    except SystemExit as error:
        raise _refused(config) from error
    except Exception as error:
        sentences = [
            line.strip() for line in str(error).splitlines() if line.strip() and not line.strip().endswith(":")
        ]
        raise ConfigError(
            [f"--runner {config.runner}: {line}" for line in sentences or [type(error).__name__]]
        ) from error


def _refused(config: RunConfig) -> ConfigError:
    """For when the parser of Beam's options, which is run late and piece by piece, would end the process."""
    return ConfigError(
        [f"Beam does not take the options after --, {' '.join(config.beam_options)!r}: the log says why"]
    )


def _translated(error: Exception) -> Exception:
    """The error of ours that says what an error of the runner means."""
    for cause in _causes(error):
        found = _OUTPUT.findall(f"{type(cause).__name__}: {cause}")
        if found:
            return OutputError(found[-1])
    return EngineError(_short(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _short(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else "no message"
    name = type(error).__name__
    return (text if name in ("RuntimeError", "BeamRunnerError") or text.startswith(name) else f"{name}: {text}")[:500]
