"""Run the graph on a Beam runner and hand back its counters; what differs between engines is options."""

from __future__ import annotations

import apache_beam as beam
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.options import RunConfig
from pipeline.survey import Plan, survey


class EngineError(RuntimeError):
    """The runner failed; nothing was committed."""


def beam_flags(config: RunConfig) -> list[str]:
    """Options of Beam for a run.

    Parameters
    ----------
    config : RunConfig
        The run.

    Returns
    -------
    list of str
        Flags; those of the user come last and win.
    """
    flags = [f"--runner={config.runner}", "--no_save_main_session"]
    if config.runner in ("FnApiRunner", "DirectRunner") and config.workers > 1:
        flags += [f"--direct_num_workers={config.workers}", "--direct_running_mode=multi_processing"]
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
    EngineError
        Where the runner did not finish.
    OSError
        Where the output could not be written.
    """
    pipeline = beam.Pipeline(options=PipelineOptions(beam_flags(config)))
    survey(pipeline, plan)
    try:
        result = pipeline.run()
        state = result.wait_until_finish()
    except (KeyboardInterrupt, OSError):
        raise
    except Exception as error:  # the runner wraps whatever a worker raised
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, OSError):
            raise cause from error
        raise EngineError(_short(error)) from error
    if str(state) != "DONE":
        raise EngineError(f"{config.runner} ended in state {state}")
    counters = result.metrics().query(MetricsFilter().with_namespace("nightcat"))["counters"]
    return {c.key.metric.name: int(c.result) for c in counters}


def _short(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:500]
