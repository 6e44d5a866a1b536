"""The command that watches folders: watch."""

from __future__ import annotations

import json
import re
import signal
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.cli import EXIT_OK, EXIT_OUTPUT, EXIT_SUMS, EXIT_USAGE
from pipeline.cli.display import fail
from pipeline.cli.guard import guarded


def watch(options: Namespace) -> int:
    """Process files as they arrive.

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

    faults = _faults(options)
    try:
        config = config_of(options)
    except ConfigError as error:
        return fail([*faults, *error.faults], EXIT_USAGE)
    if config.remote:
        faults.append("watch runs on this machine: --engine local or prism")
    if faults:
        return fail(faults, EXIT_USAGE)
    return guarded(config.output, config.night, partial(_watch, options, config), EXIT_OUTPUT)


def _faults(options: Namespace) -> list[str]:
    faults = times_faults(options, above=("poll",), any_=("settle", "idle_exit"))
    if not options.marker or "/" in options.marker:
        faults.append(f"--marker {options.marker!r} is not the name of a file")
    return faults


def times_faults(options: Namespace, above: Sequence[str], any_: Sequence[str]) -> list[str]:
    """What is wrong with options that are times.

    Parameters
    ----------
    options : Namespace
        Command-line options; ``close`` and ``noon`` are times of the day.
    above, any_ : sequence of str
        Options in seconds, above 0 and not below 0.

    Returns
    -------
    list of str
        Sentences.
    """
    faults = [
        f"--{name.replace('_', '-')} {value!r} is not a number of seconds{' above 0' if least else ''}"
        for name, least in [*((name, True) for name in above), *((name, False) for name in any_)]
        if (value := getattr(options, name)) is not None and not (value > 0 or (value == 0 and not least))
    ]
    faults += [
        f"--{name} {value!r} is not a time of day like 09:30 (UTC)"
        for name in ("close", "noon")
        if (value := getattr(options, name)) is not None and hours(value) is None
    ]
    return faults


def hours(text: str) -> float | None:
    """Read a time of the day.

    Parameters
    ----------
    text : str
        ``HH:MM``.

    Returns
    -------
    float or None
        Hours; None for anything else.
    """
    found = re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", text)
    return int(found[1]) + int(found[2]) / 60 if found else None


def _watch(options: Namespace, config: Any) -> int:
    from pipeline.quiet import quiet_children, quiet_libraries
    from transforms.store import Store

    store = Store(config.output)
    log = Path(store.root) / ".logs" / "nightcat.log" if store.local else None
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with quiet_libraries(log), quiet_children(log) as screen:
        from pipeline.models import ModelError
        from pipeline.nights import SumsError
        from pipeline.watching import Watcher, WatchOptions

        how = WatchOptions(
            poll=options.poll, settle=options.settle, marked=options.done, marker=options.marker,
            close=None if options.close is None else hours(options.close), noon=hours(options.noon) or 0.0,
            idle_exit=options.idle_exit,
        )  # fmt: skip
        watcher = Watcher(config, how, partial(models_of, config, {}), partial(tell, options, screen))
        try:
            watcher.run(stop)
        except ModelError as error:
            return fail(str(error), EXIT_USAGE)
        except SumsError as error:
            return fail(["sums do not close, the watch has ended:", *error.faults], EXIT_SUMS)
    return EXIT_OK


def models_of(config: Any, loaded: dict[str, str]) -> Sequence[Any]:
    """The models of a night, loaded once for all of its runs.

    Parameters
    ----------
    config : RunConfig
        Of the runs.
    loaded : dict of str to str
        Digest of each folder that was loaded; kept up.

    Returns
    -------
    sequence of Model
        Those in production now.
    """
    from finetune.predict import preload
    from pipeline.models import in_production, resolve_models
    from pipeline.workers import most_workers

    config = in_production(config)
    found = resolve_models(
        config.tasks, config.bundles, config.where(), config.dtype, config.threads, config.embeddings,
        registry=config.registry, processes=most_workers(config),
    )  # fmt: skip
    for model in found:
        if loaded.get(model.path) != model.digest:
            preload(model.path, **config.predictor_options(model.device))
        loaded[model.path] = model.digest
    return found


def tell(options: Namespace, screen: Any, event: str, **values: Any) -> None:
    """Tell what has happened.

    Parameters
    ----------
    options : Namespace
        Command-line options: ``json`` or ``quiet``.
    screen : file object
        For trouble.
    event : str
        ``batch``, ``closed``, ``connected`` or ``trouble``.
    **values
        What is told of it.
    """
    if options.json:
        print(json.dumps({"event": event, **values}), flush=True)
    elif event == "trouble":
        print(f"nightcat: {values['reason']}; it is tried again", file=screen, flush=True)
    elif not options.quiet:
        print(f"{time.strftime('%H:%M:%S', time.gmtime())} {_sentence(event, values)}", file=sys.stdout, flush=True)


def _sentence(event: str, values: dict[str, Any]) -> str:
    if event == "connected":
        return f"connected: {', '.join(values['topics'])} of cluster {values['cluster']}"
    if event == "closed":
        return f"night {values['night']} is closed: {values['rows']} rows, {values['rejects']} rejects"
    rows = ", ".join(f"{count} {name}" for name, count in values["rows"].items()) or "no row"
    if "messages" in values:
        return (
            f"night {values['night']}: {values['messages']} alerts, {rows}, {values['rejects']} rejects, "
            f"{values['seconds']:.1f} s; {values['age_p50']:.0f} s old (99 %: {values['age_p99']:.0f} s), "
            f"{values['behind']} wait"
        )
    return (
        f"night {values['night']}: {values['files']} files, {rows}, {values['rejects']} rejects of the night so far, "
        f"{values['seconds']:.1f} s"
    )
