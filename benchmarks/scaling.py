"""``python -m benchmarks.scaling``: what an object, a file, a partition and a night cost, and a model made of them.

The costs of the machinery are measured on the format and the model of the tests, which cost next to nothing, one
after the other; the model is then held against nights of three sizes that it was not made from. What a model and the
classical steps cost for each real object comes from docs/performance.md. ``docs/scaling.md`` is written from both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks.__main__ import PARTS, RESULTS, ROOT

PAGE = ROOT / "docs" / "scaling.md"
KEPT = RESULTS.parent / "scaling.json"
YEARS, NIGHTS_A_YEAR = 10, 300


class Night(NamedTuple):
    """Size of a night.

    Parameters
    ----------
    objects, files, order : int
        Objects, in so many files, in a catalog of this HEALPix order.
    """

    objects: int
    files: int
    order: int


#: One thing is changed at a time, from the first.
BASE = Night(2_000, 20, 0)
CHANGED = {"object": Night(20_000, 20, 0), "file": Night(2_000, 2_000, 0), "partition": Night(2_000, 20, 3)}
CHECKED = (Night(5_000, 500, 2), Night(20_000, 1_000, 3), Night(100_000, 2_000, 1))


def write_toys(folder: Path, night: Night, first: int = 100) -> Path:
    """Files of objects that cost nothing, all over the sky.

    Parameters
    ----------
    folder : Path
        To be made.
    night : Night
        How many.
    first : int
        Number of the first object.

    Returns
    -------
    Path
        The folder.
    """
    folder.mkdir(parents=True)
    each = night.objects // night.files
    for file in range(night.files):
        lines = "\n".join(str(first + i) for i in range(file * each, (file + 1) * each))
        (folder / f"f{file:06d}.txt").write_text(f"TOY\n{lines}\n")
    return folder


def run(night: Path, catalog: Path, order: int, date: str = "2026-11-24") -> tuple[float, int]:
    """Run a night on one process.

    Parameters
    ----------
    night, catalog : Path
        Files and catalog.
    order : int
        Of its pixels.
    date : str
        Name of the night.

    Returns
    -------
    seconds, files : float, int
        Wall time, and data files that were written.
    """
    from pipeline.ledger import Ledger
    from pipeline.nights import run_nights
    from pipeline.options import RunConfig
    from tests import toy_night

    config = RunConfig(
        inputs=(str(night),), output=str(catalog), night=date, tasks=("toy",), workers=1, order=order
    )  # fmt: skip
    started = time.perf_counter()
    run_nights(config, toy_night.MODELS)
    took = time.perf_counter() - started
    return took, sum(len(one.files) for one in Ledger(str(catalog)).runs(date))


def fastest(folder: Path, night: Night, rounds: int) -> tuple[float, int]:
    """The least time of some rounds: noise only ever adds.

    Parameters
    ----------
    folder : Path
        For files and catalogs.
    night : Night
        The night.
    rounds : int
        How many.

    Returns
    -------
    seconds, files : float, int
        As ``run``.
    """
    place = write_toys(folder / "-".join(map(str, night)), night)
    found = []
    for _ in range(rounds):
        shutil.rmtree(folder / "catalog", ignore_errors=True)
        found.append(run(place, folder / "catalog", night.order))
    print(night, found, flush=True)
    return min(found)


def many_nights(folder: Path, count: int) -> tuple[list[float], int]:
    """Nights one after the other into one catalog: what those before it cost.

    Parameters
    ----------
    folder : Path
        For files and catalog.
    count : int
        Nights.

    Returns
    -------
    seconds, files : list of float, int
        Of each night; data files of one.
    """
    took, files = [], 0
    for number in range(count):
        date = f"2026-{1 + number // 28:02d}-{1 + number % 28:02d}"
        place = write_toys(folder / "nights" / date, Night(1_000, 10, 3), 100 + 1_000 * number)
        seconds, files = run(place, folder / "years", 3, date)
        took.append(seconds)
    print("nights", [round(t, 2) for t in took], flush=True)
    return took, files


def costs(folder: Path, rounds: int, nights: int) -> dict[str, float]:
    """Measure what each thing costs.

    Parameters
    ----------
    folder : Path
        For files and catalogs.
    rounds, nights : int
        As above.

    Returns
    -------
    dict of str to float
        Seconds: ``fixed``, ``object``, ``file``, ``partition`` (a data file written) and ``before`` (a data file of an
        earlier night, at each commit).
    """
    import numpy as np

    base, written = fastest(folder, BASE, rounds)
    found: dict[str, float] = {}
    for name, night in CHANGED.items():
        seconds, files = fastest(folder, night, rounds)
        more = {"object": night.objects - BASE.objects, "file": night.files - BASE.files, "partition": files - written}
        found[name] = max(0.0, (seconds - base) / more[name])
    found["fixed"] = base - sum(
        found[name] * count
        for name, count in {"object": BASE.objects, "file": BASE.files, "partition": written}.items()
    )
    took, files = many_nights(folder, nights)
    slope = np.polyfit(np.arange(len(took))[3:], took[3:], 1)[0]
    found["before"] = max(0.0, float(slope) / files)
    return found


def predicted(cost: Mapping[str, float], objects: int, files: int, partitions: int, before: int = 0) -> float:
    """What a night takes in one process, in seconds, without the models.

    Parameters
    ----------
    cost : mapping of str to float
        From ``costs``.
    objects, files, partitions : int
        Of the night.
    before : int
        Data files of the nights before it.

    Returns
    -------
    float
        Seconds.
    """
    return (
        cost["fixed"]
        + cost["object"] * objects
        + cost["file"] * files
        + cost["partition"] * partitions
        + cost["before"] * before
    )


def page(kept: Mapping[str, object]) -> str:
    """The page.

    Parameters
    ----------
    kept : mapping
        Costs, checks and how they were measured.

    Returns
    -------
    str
        Markdown.
    """
    cost: Mapping[str, float] = kept["costs"]  # type: ignore[assignment]
    checks: list[list[float]] = kept["checks"]  # type: ignore[assignment]
    lines = [
        (PARTS / "scaling.md").read_text(encoding="utf-8").rstrip(),
        "## What each thing costs",
        "| what | one costs, ms |\n|---|---:|\n"
        + "\n".join(
            f"| {text} | {1e3 * cost[name]:.3f} |"
            for name, text in {
                "object": "an object, without model and classical steps",
                "file": "an input file",
                "partition": "a data file written (pixel, margin or rejects)",
                "before": "a data file of an earlier night, at each commit",
                "fixed": "a night",
            }.items()
        ),
        f"Measured with `{kept['command']}` on {kept['machine']}; the least of the rounds.",
        "## The model against nights that it was not made from",
        "| objects | files | data files | predicted, s | measured, s | ratio |\n|---:|---:|---:|---:|---:|---:|\n"
        + "\n".join(f"| {o:.0f} | {f:.0f} | {p:.0f} | {a:.1f} | {b:.1f} | {b / a:.2f} |" for o, f, p, a, b in checks),
        "## Ten million objects a night, and ten years of them",
        _survey(cost),
        (PARTS / "scaling_end.md").read_text(encoding="utf-8").rstrip(),
    ]
    return "\n\n".join(lines) + "\n"


def _survey(cost: Mapping[str, float]) -> str:
    """The machinery alone; the models are another table's."""
    lines = [
        "| night | objects | files | data files | earlier data files | machinery, process hours |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    objects, files, pixels = 10_000_000, 40_000, 2 * 768
    for name, nights in (("first", 0), ("after a year", NIGHTS_A_YEAR), ("after ten years", YEARS * NIGHTS_A_YEAR)):
        hours = predicted(cost, objects, files, pixels, nights * pixels) / 3600
        lines.append(f"| {name} | {objects} | {files} | {pixels} | {nights * pixels} | {hours:.2f} |")
    total = sum(
        predicted(cost, objects, files, pixels, night * pixels) for night in range(YEARS * NIGHTS_A_YEAR)
    ) / 3600  # fmt: skip
    lines.append(f"| all of ten years | {objects * YEARS * NIGHTS_A_YEAR:.1e} | | | | {total:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nights", type=int, default=40, help="into one catalog")
    parser.add_argument("--page-only", action="store_true", help="write the page from the kept figures")
    options = parser.parse_args()
    if not options.page_only:
        from tests import toy_night

        toy_night.install()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            run(write_toys(folder / "warm", Night(100, 1, 0)), folder / "warm-catalog", 0)
            cost = costs(folder, options.rounds, options.nights)
            checks = []
            for night in CHECKED:
                seconds, files = fastest(folder, night, 1 if night.objects > 50_000 else options.rounds)
                checks.append(
                    [night.objects, night.files, files, predicted(cost, night.objects, night.files, files), seconds]
                )
        kept = {
            "costs": cost, "checks": checks, "command": shlex.join(["python", "-m", "benchmarks.scaling", *sys.argv[1:]]),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, one process, load {os.getloadavg()[0]:.1f} at the end",
        }  # fmt: skip
        KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(json.loads(KEPT.read_text(encoding="utf-8"))), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
