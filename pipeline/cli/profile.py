"""The command that runs a night and tells where its time and memory went: profile."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pipeline.cli import EXIT_FOUND, EXIT_OK, EXIT_OUTPUT, EXIT_USAGE
from pipeline.cli.display import fail, show, show_table

if TYPE_CHECKING:
    from pipeline.options import RunConfig
    from pipeline.profile_report import Line, Profile
    from pipeline.profiling import Recorder
    from pipeline.sampling import Sampler

FOLDED = ".folded"  #: Suffix of collapsed lines.
MEGABYTE = 1e6


def profile(options: Namespace) -> int:
    """Run a night as ``run`` does, and measure it.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code: that of the run; 2 for what cannot be measured.
    """
    from pipeline.profile_points import OTHER, timed_imports
    from pipeline.profiling import Recorder
    from pipeline.sampling import Sampler

    faults = _faults(options)
    if faults:
        return fail(faults, EXIT_USAGE)
    recorder, began = Recorder(), time.process_time()
    sampler = Sampler(recorder, options.rate)
    with sampler, recorder.stage(OTHER), timed_imports(recorder), _scratch(options) as scratch:
        code = _run(options, recorder)
    if code not in (EXIT_OK, EXIT_FOUND):
        return code
    if scratch:
        show(options, {"event": "discarded", "output": scratch}, "that catalog was thrown away: --output keeps it")
    from pipeline.profile_report import summarise

    measured = summarise(recorder, sampler, time.process_time() - began)
    _show(options, measured)
    return _write(options, measured, sampler) or code


def _faults(options: Namespace) -> list[str]:
    flame = Path(options.flame) if options.flame else None
    faults = []
    if not options.rate > 0 or options.rate > 1000:
        faults.append(f"--rate {options.rate!r} is not a number above 0 and up to 1000")
    if flame is not None and flame.suffix != ".svg":
        faults.append(f"--flame {options.flame!r} does not end in .svg")
    if flame is not None and not flame.parent.is_dir():
        faults.append(f"--flame {options.flame!r}: no folder {str(flame.parent)!r}")
    return faults


def _run(options: Namespace, recorder: Recorder) -> int:
    from pipeline.cli.run import config_of, run_config
    from pipeline.options import ConfigError
    from pipeline.profile_points import timed_points

    try:
        config = _one_process(config_of(options))
    except ConfigError as error:
        return fail(error.faults, EXIT_USAGE)
    return run_config(options, config, partial(timed_points, recorder))


def _one_process(config: RunConfig) -> RunConfig:
    """Everything in this process, or a refusal: what other processes do cannot be seen from here."""
    from pipeline.option_kinds import AUTO
    from pipeline.options import ConfigError

    faults = []
    if config.runner != "FnApiRunner":
        faults.append(
            f"profile looks into its own process and cannot see the workers of --runner {config.runner}: "
            "leave --engine and --runner out"
        )
    if config.workers not in (AUTO, 1):
        faults.append(
            f"profile looks into its own process and cannot see the other processes of --workers {config.workers}: "
            "leave it out, or ask for 1"
        )
    told = [option for option in config.beam_options if option.startswith("--direct_")]
    if told:
        faults.append(f"profile runs everything in its own process, which {' '.join(told)} would change")
    if faults:
        raise ConfigError(faults)
    return replace(config, workers=1)


@contextmanager
def _scratch(options: Namespace) -> Iterator[str]:
    """A catalog that is thrown away, where the user has named none; empty where there is one."""
    from pipeline.options import ConfigError, read_toml

    try:
        named = options.output or (read_toml(options.config).get("output") if options.config else "")
    except ConfigError:  # told where all options are checked
        named = "nothing will be written"
    if named:
        yield ""
        return
    with TemporaryDirectory(prefix="nightcat-profile-") as folder:
        options.output = folder
        yield folder


def _write(options: Namespace, measured: Profile, sampler: Sampler) -> int:
    """Write the flame graph, and the same as collapsed lines beside it."""
    if not options.flame:
        return EXIT_OK
    from pipeline.flame import collapsed, picture
    from pipeline.profile_points import STAGES

    page = Path(options.flame)
    title = (
        f"nightcat profile: {measured.seconds:.1f} s, {sampler.looks} looks at all threads; width is time, "
        "rows are thread, stage, functions; click to zoom"
    )
    try:
        page.write_text(picture(sampler.stacks, title, STAGES), encoding="utf-8")
        page.with_suffix(FOLDED).write_text(collapsed(sampler.stacks), encoding="utf-8")
    except OSError as error:
        return fail(f"--flame {options.flame!r} cannot be written: {error.strerror or error}", EXIT_OUTPUT)
    return EXIT_OK


def _show(options: Namespace, measured: Profile) -> None:
    if options.json:
        show(options, {"event": "profile", **measured.plain(), "flame": options.flame or None}, "")
        return
    from pipeline.profile_report import advice, remarks

    header = (
        "thread",
        "stage",
        "seconds",
        "share",
        "CPU s",
        "calls",
        "ms a call",
        "peak MB",
        "added MB",
        "from disk MB",
    )
    title = f"{measured.seconds:.2f} s, of which the stages took, each without those within"
    show_table(options, title, header, map(_row, measured.with_sums()))
    for sentence in (*remarks(measured), advice(measured)):
        show(options, None, sentence)
    if options.flame:
        beside = Path(options.flame).with_suffix(FOLDED)
        show(options, None, f"flame graph: {options.flame}, and as collapsed lines {beside}")


def _row(line: Line) -> Sequence[object]:
    """A line as text, empty where there is nothing to say."""

    def megabytes(number: float) -> object:
        return round(number / MEGABYTE) if line.peak else ""

    each = f"{1e3 * line.seconds / line.calls:.2f}" if line.calls else ""
    disk = f"{line.disk / MEGABYTE:.1f}" if line.disk else ""
    times = f"{line.seconds:.2f}", f"{100 * line.share:.1f} %", f"{line.cpu:.2f}"
    return line.thread, line.stage, *times, line.calls or "", each, megabytes(line.peak), megabytes(line.added), disk
