"""``python -m benchmarks.engines``: what Prism costs over the local runner, and what a second core gives.

Prism is compared on the format and the model of the tests, which cost next to nothing, so that the engine itself is
measured: at two sizes, so that what is fixed and what an object costs are told apart. Cores are compared on light
curves, by the whole command on one processor and on all.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.__main__ import keep, make_night, run_command, watched

ENGINES = {"local": "FnApiRunner", "prism": "PrismRunner"}
HEAD = ["| what | n | median, s | over the first | range |", "|---|---:|---:|---:|---|"]
A_FILE = 100  #: Objects.


def toy_files(folder: Path, n: int) -> Path:
    """A night of objects that cost nothing.

    Parameters
    ----------
    folder : Path
        To be made.
    n : int
        Objects.

    Returns
    -------
    Path
        The folder.
    """
    folder.mkdir(parents=True)
    for first in range(0, n, A_FILE):
        lines = "\n".join(str(100 + i) for i in range(first, first + A_FILE))
        (folder / f"f{first:06d}.txt").write_text(f"TOY\n{lines}\n")
    return folder


def on_engine(engine: str, night: Path, output: Path) -> float:
    """Seconds of one night, libraries loaded.

    Parameters
    ----------
    engine : str
        Of ``ENGINES``.
    night, output : Path
        Files and catalog.

    Returns
    -------
    float
        Wall time.
    """
    from pipeline.nights import run_nights
    from pipeline.options import RunConfig
    from tests import toy_night

    shutil.rmtree(output, ignore_errors=True)
    config = RunConfig(
        inputs=(str(night),), output=str(output), night="2026-11-24", tasks=("toy",), workers=1, engine=engine,
        runner=ENGINES[engine],
    )  # fmt: skip
    started = time.perf_counter()
    run_nights(config, toy_night.MODELS)
    return time.perf_counter() - started


def engines(folder: Path, sizes: list[int], rounds: int) -> list[str]:
    """Compare the engines.

    Parameters
    ----------
    folder : Path
        For nights and catalogs.
    sizes : list of int
        Objects.
    rounds : int
        Counted rounds.

    Returns
    -------
    list of str
        Lines of the table.
    """
    from tests import toy_night

    toy_night.install()
    times: dict[tuple[str, int], list[float]] = {}
    for n in sizes:
        night = toy_files(folder / f"toys-{n}", n)
        for number in range(rounds + 1):
            for engine in ENGINES:
                took = on_engine(engine, night, folder / f"out-{engine}")
                if number:  # the first warms caches
                    times.setdefault((engine, n), []).append(took)
    return [line for n in sizes for line in _lines({f"toy night, `{e}`": times[e, n] for e in ENGINES}, n)]


def cores(folder: Path, n: int, rounds: int) -> list[str]:
    """Compare one processor with all.

    Parameters
    ----------
    folder : Path
        For night and catalog.
    n : int
        Light curves.
    rounds : int
        Counted rounds.

    Returns
    -------
    list of str
        Lines of the table.
    """
    night = make_night(folder / "stars", "variable_star", n)
    every = sorted(os.sched_getaffinity(0))
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        for count in (1, len(every)):
            os.sched_setaffinity(0, every[:count])  # the command inherits it
            command = run_command(night, folder / "out", "variable_star")
            command[command.index("--workers") + 1] = "auto"
            times.setdefault(f"`nightcat run` of light curves, {count} core{'s' * (count > 1)}", []).append(
                watched(command).wall
            )
            os.sched_setaffinity(0, every)
    return _lines(times, n)


def _lines(times: dict[str, list[float]], n: int) -> list[str]:
    first = next(iter(times.values()))
    lines = []
    for name, took in times.items():
        ratios = sorted(a / b for a, b in zip(took, first, strict=True))
        spread = "" if took is first else f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        ratio = "" if took is first else f"{statistics.median(ratios):.2f}"
        lines.append(f"| {name} | {n} | {statistics.median(took):.1f} | {ratio} | {spread} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 20_000], help="objects of the toy nights")
    parser.add_argument("--stars", type=int, default=2_000, help="light curves for the cores")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=["engines", "cores"], choices=["engines", "cores"])
    options = parser.parse_args()
    lines = list(HEAD)
    with tempfile.TemporaryDirectory() as name:
        if "engines" in options.only:
            lines += engines(Path(name), options.sizes, options.rounds)
        if "cores" in options.only:
            lines += cores(Path(name), options.stars, options.rounds)
    keep("engines", lines, options.rounds)


if __name__ == "__main__":
    main()
