"""Run the graph without an end on an engine that streams."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pipeline.broker import StreamError
from pipeline.landing import claim, plan_of
from pipeline.models import in_production, resolve_models
from pipeline.options import ConfigError, RunConfig
from pipeline.workers import EngineError

GOES_ON = "RUNNING"


def stream_flags(config: RunConfig) -> list[str]:
    """Options of Beam for a stream.

    Parameters
    ----------
    config : RunConfig
        Runner and options.

    Returns
    -------
    list of str
        Flags; those of the user come last and win.
    """
    from pipeline.engines import engine_flags

    flags = engine_flags(replace(config.wanted(), unbounded=True))
    streams = [] if "--streaming" in flags else ["--streaming"]
    return [f"--runner={config.runner}", "--no_save_main_session", *flags, *streams, *config.beam_options]


def run_stream(
    config: RunConfig,
    topics: Sequence[str],
    servers: str,
    group: str,
    credentials: str,
    schemas: str,
    start: str,
    *,
    landing: str,
    to_end: bool,
    noon: float,
    lateness: float,
    early: float,
) -> str:
    """Find topics and models, build the graph and run it.

    Parameters
    ----------
    config : RunConfig
        Runner, options, models.
    topics : sequence of str
        Names.
    servers, group, credentials, schemas, start : str
        As in ``pipeline.kafka_source`` and ``pipeline.unbounded``.
    landing : str
        Folder or URL of the answers.
    to_end : bool
        End where the topics end now.
    noon, lateness, early : float
        As in ``StreamPlan``.

    Returns
    -------
    str
        State of the job: ``DONE``, or ``RUNNING`` where it goes on elsewhere.

    Raises
    ------
    StreamError, ModelError, CatalogError, ConfigError
        Where something named by the user is not there.
    EngineError
        Where the engine broke off.
    """
    from pipeline.lean import import_beam

    import_beam()
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    from pipeline.kafka_source import Place, find_source
    from pipeline.unbounded import StreamPlan, stream_survey

    place = Place(servers=servers, group=group, credentials=credentials)
    source = find_source(place, topics, start, to_end=to_end)
    config = in_production(config)
    models = resolve_models(
        config.tasks, config.bundles, config.where(), config.dtype, config.threads, config.embeddings,
        registry=config.registry, remote=config.remote,
    )  # fmt: skip
    said = plan_of(config, models, noon, lateness)
    claim(landing, said)
    plan = StreamPlan(
        loaders=tuple(model.loader for model in models), landing=landing, measure_options=config.measure_options(),
        version=said["package_version"], schemas=schemas, noon=noon, lateness=lateness, early=early,
        hints=config.hints(), credentials=credentials,
    )  # fmt: skip
    # it warns at the very end of the process, when the screen is no longer kept clean, that it stops its server
    logging.getLogger("apache_beam.utils.subprocess_server").setLevel(logging.ERROR)
    try:
        pipeline = beam.Pipeline(options=PipelineOptions(stream_flags(config)))
        stream_survey(pipeline | "Alerts" >> beam.io.Read(source), plan)
        result: Any = pipeline.run()
        if config.remote and not to_end:
            return GOES_ON
        state = str(result.wait_until_finish())
    except SystemExit as error:
        raise ConfigError(
            [f"Beam does not take the options {' '.join(config.beam_options)!r}: the log says why"]
        ) from error
    except (StreamError, ConfigError):
        raise
    except Exception as error:  # the runner wraps whatever a worker raised
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise EngineError((lines[-1] if lines else type(error).__name__)[:500]) from error
    if state != "DONE":
        raise EngineError(f"{config.runner} ended in state {state}")
    return state
