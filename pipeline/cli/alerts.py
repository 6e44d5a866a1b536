"""The command that takes an alert stream: alerts."""

from __future__ import annotations

import re
import signal
import threading
from argparse import Namespace
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.cli import EXIT_ENGINE, EXIT_OK, EXIT_OUTPUT, EXIT_SUMS, EXIT_USAGE
from pipeline.cli.display import fail, show
from pipeline.cli.guard import guarded
from pipeline.cli.watch import hours, models_of, tell, times_faults


def alerts(options: Namespace) -> int:
    """Take alerts from Kafka.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code: 0 where it was told to stop, or was idle for as long as it may be.
    """
    from pipeline.cli.run import config_of
    from pipeline.options import ConfigError

    options.tasks = options.tasks or _tasks_of_light_curves()
    options.spool = options.spool or (f"{options.output.rstrip('/')}.messages" if options.output else "")
    options.inputs = [options.spool] if options.spool else []
    faults = _faults(options)
    try:
        config = config_of(options)
    except ConfigError as error:
        return fail([*faults, *error.faults], EXIT_USAGE)
    unbounded = config.runner != "FnApiRunner"
    faults += _unbounded_faults(options, config) if unbounded else _bounded_faults(options)
    if faults:
        return fail(faults, EXIT_USAGE)
    work = partial(_unbounded if unbounded else _alerts, options, config)
    return guarded(config.output, config.night, work, EXIT_OUTPUT)


def _tasks_of_light_curves() -> list[str]:
    from finetune import tasks
    from transforms.records import LightCurve

    return [name for name in tasks.names() if tasks.get(name).record is LightCurve]


def _faults(options: Namespace) -> list[str]:
    from transforms.locations import location_fault

    faults = times_faults(options, above=("interval",), any_=("idle_exit",))
    if options.batch < 1:
        faults.append(f"--batch {options.batch} is not a number of messages")
    if not re.fullmatch(r"[^\s:,]+:\d+(,[^\s:,]+:\d+)*", options.brokers):
        faults.append(f"--brokers {options.brokers!r} is not HOST:PORT, or several with commas between them")
    if options.spool and (fault := location_fault(options.spool)):
        faults.append(f"--spool: {fault}")
    return faults


def _bounded_faults(options: Namespace) -> list[str]:
    given = {"--landing": options.landing, "--to-end": options.to_end}
    return [f"{name} is of a graph without an end: --engine prism, flink or dataflow" for name in given if given[name]]


def _unbounded_faults(options: Namespace, config: Any) -> list[str]:
    from pipeline.engines import engine_faults

    places = {"--output": config.output, "--landing": _landing(options)}
    known = set(engine_faults(config.wanted()))  # told already
    faults = [f for f in engine_faults(replace(config.wanted(), unbounded=True, places=places)) if f not in known]
    if options.night is not None:
        faults.append("--night: a graph without an end takes the night of each alert from its time")
    if any(topic.startswith("^") for topic in options.topics):
        faults.append("a graph without an end takes topics by their names, not by a pattern")
    return faults


def _landing(options: Namespace) -> str:
    return str(options.landing or f"{options.output.rstrip('/')}.landing")


def _unbounded(options: Namespace, config: Any) -> int:
    """Run the graph without an end; on an engine elsewhere it goes on when the command has ended."""
    from pipeline.quiet import quiet_children, quiet_libraries
    from transforms.store import Store

    store = Store(config.output)
    log = Path(store.root) / ".logs" / "nightcat.log" if store.local else None
    with quiet_libraries(log), quiet_children(log):
        from pipeline.broker import StreamError
        from pipeline.models import ModelError
        from pipeline.streaming import run_stream
        from pipeline.workers import EngineError

        try:
            state = run_stream(
                config, options.topics, options.brokers, options.group, options.credentials, options.schemas,
                options.start, landing=_landing(options), to_end=options.to_end, noon=hours(options.noon) or 0.0,
                lateness=3600 * options.lateness, early=options.early,
            )  # fmt: skip
        except (ModelError, StreamError) as error:
            return fail(str(error), EXIT_USAGE)
        except EngineError as error:
            return fail([f"the engine failed; what has landed stays: {error}", f"log: {log}"], EXIT_ENGINE)
    show(
        options, {"event": "stream", "state": state}, f"the stream is {state.lower()}; nightcat land commits its nights"
    )
    return EXIT_OK


def land(options: Namespace) -> int:
    """Commit what a stream without an end has given.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code: 0 done; 3 where alerts of a night have not come out yet: nothing of it was committed.
    """
    return guarded(options.catalog, options.night, partial(_land, options), EXIT_OUTPUT)


def _land(options: Namespace) -> int:
    from pipeline.landing import NotComplete, commit_night, nights
    from pipeline.quiet import quiet_libraries

    landing, code = str(options.landing or f"{options.catalog.rstrip('/')}.landing"), EXIT_OK
    for night in [options.night] if options.night else nights(landing):
        try:
            with quiet_libraries(None):
                told = commit_night(options.catalog, landing, night)
        except NotComplete as error:
            code = fail(error.faults, EXIT_SUMS)
            continue
        done = "nothing is new" if not told["run_id"] else f"run {told['run_id']}"
        sentence = f"night {night}: {told['alerts']} alerts, {told['rows']} rows, {told['rejects']} rejects; {done}"
        show(options, {"event": "landed", **told}, sentence)
    return code


def _alerts(options: Namespace, config: Any) -> int:
    from pipeline.quiet import quiet_children, quiet_libraries
    from transforms.store import Store

    store = Store(config.output)
    log = Path(store.root) / ".logs" / "nightcat.log" if store.local else None
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with quiet_libraries(log), quiet_children(log) as screen:
        from pipeline.broker import StreamError
        from pipeline.models import ModelError
        from pipeline.nights import SumsError

        try:
            _stream(options, config, partial(tell, options, screen)).run(stop)
        except (ModelError, StreamError) as error:
            return fail(str(error), EXIT_USAGE)
        except SumsError as error:
            return fail(["sums do not close, the stream has ended:", *error.faults], EXIT_SUMS)
    return EXIT_OK


def _stream(options: Namespace, config: Any, say: Any) -> Any:
    """Put the stream together from the options."""
    from pipeline.broker import REGISTRY_USER, Broker, StreamError, read_credentials
    from pipeline.consuming import Stream, StreamOptions
    from pipeline.schemas import Schemas
    from pipeline.spool import Spool
    from transforms.store import Store

    settings = read_credentials(options.credentials) if options.credentials else {}
    schemas = Schemas(options.schemas, settings.pop(REGISTRY_USER, ""))
    spool, catalog = Spool(options.spool), Store(config.output)
    if other := spool.claim(catalog.root if catalog.local else config.output):
        raise StreamError(f"--spool {options.spool!r} holds the messages of another catalog: {other}")
    broker = Broker(
        servers=options.brokers, topics=options.topics, group=options.group, start=options.start, settings=settings,
        next=lambda partition: stream.next(partition), tell=lambda reason: say("trouble", reason=reason, failures=0),
    )  # fmt: skip
    how = StreamOptions(
        batch=options.batch, interval=options.interval, close=None if options.close is None else hours(options.close),
        noon=hours(options.noon) or 0.0, idle_exit=options.idle_exit, keep=options.keep,
    )  # fmt: skip
    stream = Stream(config, how, broker, schemas, spool, partial(models_of, config, {}), say)
    return stream
