"""The command that takes an alert stream: alerts."""

from __future__ import annotations

import re
import signal
import threading
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.cli import EXIT_OK, EXIT_OUTPUT, EXIT_SUMS, EXIT_USAGE
from pipeline.cli.display import fail
from pipeline.cli.guard import guarded
from pipeline.cli.watch import hours, models_of, tell, times_faults

REGISTRY_USER = "basic.auth.user.info"  #: As Confluent's clients name it; all else in the file is the broker's.


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
    if config.remote:
        faults.append("alerts runs on this machine: --engine local or prism")
    if faults:
        return fail(faults, EXIT_USAGE)
    return guarded(config.output, config.night, partial(_alerts, options, config), EXIT_OUTPUT)


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
    from pipeline.broker import Broker, StreamError, read_credentials
    from pipeline.consuming import Stream, StreamOptions
    from pipeline.schemas import Schemas
    from pipeline.spool import Spool

    settings = read_credentials(options.credentials) if options.credentials else {}
    schemas = Schemas(options.schemas, settings.pop(REGISTRY_USER, ""))
    spool = Spool(options.spool)
    if other := spool.claim(config.output):
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
