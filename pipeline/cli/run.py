"""Commands that write a catalog: run, detached or not, and replay."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli import EXIT_ENGINE, EXIT_FOUND, EXIT_OK, EXIT_OUTPUT, EXIT_SUMS, EXIT_USAGE
from pipeline.cli.display import fail, show, show_table
from pipeline.cli.guard import guarded
from pipeline.cli.registry import registry

if TYPE_CHECKING:
    from pipeline.options import RunConfig


def run(options: Namespace) -> int:
    """Process a night of files.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code.
    """
    from pipeline.options import ConfigError

    try:
        config = config_of(options)
    except ConfigError as error:
        return fail(error.faults, EXIT_USAGE)
    return run_config(options, config)


def run_config(
    options: Namespace, config: RunConfig, around: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> int:
    """Process the nights of a configuration, and show what became of them.

    Parameters
    ----------
    options : Namespace
        Command-line options: how it is shown.
    config : RunConfig
        Checked.
    around : callable
        ``around() -> context manager``: entered around the nights, when libraries are quiet.

    Returns
    -------
    int
        Exit code.
    """
    return guarded(config.output, config.night, partial(_run, options, config, around), EXIT_OUTPUT)


def _run(options: Namespace, config: Any, around: Callable[[], AbstractContextManager[Any]]) -> int:
    from pipeline.models import ModelError, in_production

    try:
        config = in_production(config)
    except ModelError as error:
        return fail(str(error), EXIT_USAGE)
    if config.detach:
        return _guarded(options, config, partial(_detach, options, config), partial(_detached, options, config))
    return _guarded(options, config, partial(_nights, config, around))


def _detach(options: Namespace, config: Any, load: Callable[[], Sequence[Any]], watch: Any) -> list[Any]:
    from pipeline.detached import detach_nights
    from pipeline.nights import NightResult

    done = []
    for one in detach_nights(config, load):  # told at once: the next night may fail, and the job of this one goes on
        if isinstance(one, NightResult):
            done.append(one)
            continue
        event = {"event": "detached", "night": one.night, "run_id": one.run_id, "job": one.job}
        how = f"nightcat finish {config.output} --run {one.run_id}"
        show(options, event, f"night {one.night}: the {one} is submitted; when its job is done: {how}")
    return done


def _detached(options: Namespace, config: Any, done: Sequence[Any]) -> int:
    """Nights that need no job."""
    return _summary(options, config, done) if done else EXIT_OK


def replay(options: Namespace) -> int:
    """Run again only the files that had rejects.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code.
    """
    return guarded(options.catalog, options.night, partial(_replay, options), EXIT_OUTPUT)


def _replay(options: Namespace) -> int:
    from pipeline.nights import run_night
    from pipeline.replay import check_models, rejected_inputs, replay_configs

    configs = replay_configs(options.catalog, options.night, options.checksums)
    if not configs:
        return fail(f"{options.catalog}: no run to replay", EXIT_USAGE)
    nights = rejected_inputs(options.catalog, options.night)
    if not nights:
        show(options, {"replayed": 0}, f"{options.catalog}: nothing was refused")
        return EXIT_OK

    def work(night: str, load: Callable[[], Sequence[Any]], watch: Any) -> list[Any]:
        models = load()
        check_models(options.catalog, night, models)
        return [run_night(configs[night], models, night, nights[night], watch)]

    return max(_guarded(options, configs[night], partial(work, night)) for night in nights)


def _nights(
    config: Any,
    around: Callable[[], AbstractContextManager[Any]],
    load: Callable[[], Sequence[Any]],
    watch: Any,
) -> list[Any]:
    with around():
        from pipeline.nights import run_nights

        return run_nights(config, load, watch)


def _guarded(
    options: Namespace,
    config: Any,
    work: Callable[[Callable[[], Sequence[Any]], Any], list[Any]],
    tell: Callable[[Sequence[Any]], int] | None = None,
) -> int:
    """Load what is needed, run, and turn what stops a run into a sentence and an exit code."""
    from pipeline.quiet import quiet_children, quiet_libraries, voice
    from transforms.store import Store

    store = Store(config.output)
    log = Path(store.root) / ".logs" / "nightcat.log" if store.local else None
    mode = "json" if options.json else "quiet" if options.quiet else "live" if sys.stderr.isatty() else "plain"
    with quiet_libraries(log):
        from pipeline.models import ModelError, resolve_models
        from pipeline.nights import SumsError
        from pipeline.progress import Progress
        from pipeline.workers import EngineError, most_workers

        load = partial(
            resolve_models, config.tasks, config.bundles, config.where(), config.dtype, config.threads,
            config.embeddings, registry=config.registry, remote=config.remote, processes=most_workers(config),
        )  # fmt: skip
        try:
            with quiet_children(log) as screen, voice(screen if mode in ("live", "plain") else None):
                results = work(load, lambda files, size, folder: Progress(mode, files, size, screen, folder))
        except ModelError as error:
            return fail(str(error), EXIT_USAGE)
        except SumsError as error:
            return fail(["sums do not close, nothing was committed:", *error.faults], EXIT_SUMS)
        except EngineError as error:
            return fail([f"the engine failed, nothing was committed: {error}", f"log: {log}"], EXIT_ENGINE)
    return tell(results) if tell else _summary(options, config, results)


def _summary(options: Namespace, config: Any, results: Sequence[Any]) -> int:
    if options.json:
        for result in results:
            show(options, {"event": "night", **asdict(result)}, "")
    else:
        names = sorted({name for result in results for name in result.rows})
        header = ("night", "run", "files", "done before", *names, "rejects", "seconds")
        rows = [
            (
                result.night,
                result.run_id or "nothing to do",
                result.files,
                result.skipped,
                *(result.rows.get(name, 0) for name in names),
                result.rejects,
                f"{result.seconds:.1f}",
            )
            for result in results
        ]
        show_table(options, f"catalog {config.output}", header, rows)
        refused = sum(result.rejects for result in results)
        if refused:
            show(options, None, f"{refused} rejects: nightcat rejects {config.output}")
    if config.strict and any(result.rejects for result in results):
        return EXIT_FOUND
    return EXIT_OK


def config_of(options: Namespace) -> RunConfig:
    """Make the configuration that the options of ``run`` and ``watch`` name.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    RunConfig
        Checked.

    Raises
    ------
    ConfigError
        With every fault.
    """
    from finetune import tasks
    from pipeline.options import ConfigError, make_config, read_toml

    file = read_toml(options.config) if options.config else {}
    if file.get("detach") and "detach" not in options:
        raise ConfigError(
            ["detach: what arrives is committed in small runs, by the command that watches; leave it out"]
        )
    flags = vars(options) | {name: _merged(getattr(options, name)) for name in ("bundles", "light_curves")}
    flags["registry"] = registry(options) or None
    return make_config(flags, file, tasks.names())


def _merged(pairs: Sequence[tuple[str, str]] | None) -> dict[str, str] | None:
    return dict(pairs) if pairs else None
