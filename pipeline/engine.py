"""Run or submit the graph on a Beam runner; what differs between engines is options."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipeline.engines import engine_flags
from pipeline.forked_environment import ForkedEnvironment
from pipeline.options import ConfigError, RunConfig
from pipeline.survey import Plan, survey
from pipeline.workers import EngineError, Workers, forks, worker_count
from transforms.store import OutputError

#: How the text of an error says that the disk is full or read-only: as a worker process tells it, there is nothing
#: but text, and Beam adds the step behind it.
_OUTPUT = re.compile(
    r"\b(?:OutputError: |OSError: (?=\[Errno (?:28|30|122)\]))(.+?)(?: \[while running .*\])?(?:\\n|$)", re.MULTILINE
)


def beam_flags(config: RunConfig, workers: int, forked: bool) -> list[str]:
    """Options of Beam for a run.

    Parameters
    ----------
    config : RunConfig
        The run.
    workers : int
        Processes of the local runner.
    forked : bool
        Whether they are ours; else Beam starts an interpreter for each.

    Returns
    -------
    list of str
        Flags; those of the user come last and win.
    """
    flags = [f"--runner={config.runner}", "--no_save_main_session", *engine_flags(config.wanted())]
    if config.runner in ("FnApiRunner", "DirectRunner") and workers > 1:
        flags.append(f"--direct_num_workers={workers}")
        if not forked:
            flags.append("--direct_running_mode=multi_processing")
    return [*flags, *config.beam_options]


def run_graph(config: RunConfig, plan: Plan, source: Workers | None = None) -> dict[str, int]:
    """Build the graph of one night and run it to its end.

    Parameters
    ----------
    config : RunConfig
        Runner and options.
    plan : Plan
        What to process.
    source : Workers or None
        Where worker processes come from; None makes one for this run.

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
    with nullcontext(source) if source else Workers() as source:
        return _run(_pipeline(config, plan, source), config, plan, source)


def submit_graph(config: RunConfig, plan: Plan) -> str:
    """Build the graph of one night and hand it to an engine that runs it elsewhere, without waiting for it.

    Parameters
    ----------
    config : RunConfig
        Runner and options.
    plan : Plan
        What to process.

    Returns
    -------
    str
        The engine's name of the job; empty where it tells none, as where the graph is written for the launcher of a
        template, which submits it.

    Raises
    ------
    ConfigError
        Where Beam refuses the options of the runner.
    EngineError
        Where the engine does not take the job.
    """
    pipeline = _pipeline(config, plan, Workers())
    with _spoken(pipeline, config, ()):
        survey(pipeline, plan)
        return _job_of(pipeline.run())


def _job_of(result: Any) -> str:
    """A job server and Dataflow each name a job in their own way."""
    told = getattr(result, "_job_id", "") or getattr(getattr(result, "job", None), "id", "")
    return str(told or "")


def _run(pipeline: beam.Pipeline, config: RunConfig, plan: Plan, source: Workers) -> dict[str, int]:
    with _spoken(pipeline, config, source.lost):
        survey(pipeline, plan)
        result = pipeline.run()
        state = result.wait_until_finish()
    if str(state) != "DONE":
        raise EngineError(f"{config.runner} ended in state {state}")
    counters = result.metrics().query(MetricsFilter().with_namespace("nightcat"))["counters"]
    return {c.key.metric.name: int(c.result) for c in counters}


@contextmanager
def _spoken(pipeline: beam.Pipeline, config: RunConfig, lost: Sequence[str]) -> Iterator[None]:
    """Turn whatever a runner raises into an error of ours; ``lost`` tells of workers that died."""
    # it warns at the very end of the process, when the screen is no longer kept clean, that it stops its server
    logging.getLogger("apache_beam.utils.subprocess_server").setLevel(logging.ERROR)
    try:
        yield
    except SystemExit as error:
        raise _refused(config) from error
    except Exception as error:  # the runner wraps whatever a worker raised
        raise _translated(error, lost) from error
    finally:
        shutil.rmtree(pipeline.local_tempdir, ignore_errors=True)  # Beam leaves it where the graph was never run


def _pipeline(config: RunConfig, plan: Plan, source: Workers) -> beam.Pipeline:
    """An empty graph; what Beam says of wrong options is told as a fault of the options."""
    forked = forks(config, plan.files)
    flags = beam_flags(config, worker_count(config, plan.files), forked)
    try:
        return beam.Pipeline(FnApiRunner(ForkedEnvironment.of(source)) if forked else None, PipelineOptions(flags))
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


def _translated(error: Exception, lost: Sequence[str]) -> Exception:
    """The error of ours that says what an error of the runner means; ``lost`` tells of workers that died."""
    for cause in _causes(error):
        found = _OUTPUT.findall(f"{type(cause).__name__}: {cause}")
        if found:
            return OutputError(found[-1])
    text = _short(error)
    return EngineError(lost[-1] if lost and "Channel closed" in text else text)


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
