"""``python -m benchmarks``: every figure of docs/performance.md from one command.

Ratios are taken in one run, the routes in turn (ours, bare, script, ours, ...), medians over the rounds. Peak memory is
that of the whole process tree, sampled ten times a second, of a fresh process for each size. Each part that is run
replaces its own section of the page, with its command and the machine's load; ``docs/parts/performance_*.md`` hold the
sentences on what the figures mean.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil

ROOT = Path(__file__).resolve().parents[1]
KINDS = {
    "galaxy_morphology": {"fields": 0, "stamps": 1, "spectra": 0, "light_curves": 0},
    "stellar_parameters": {"fields": 0, "stamps": 0, "spectra": 1, "light_curves": 0},
    "variable_star": {"fields": 0, "stamps": 0, "spectra": 0, "light_curves": 1},
}
NIGHT = "2026-11-24"
TITLES = {
    "throughput": "Throughput",
    "memory": "Memory and time by size",
    "start": "Start",
    "large": "Large files",
    "stream": "Alert stream",
    "engines": "Engines and cores",
}
RESULTS = ROOT / "benchmarks" / "results" / "performance.json"
PARTS = ROOT / "docs" / "parts"
PAGE = ROOT / "docs" / "performance.md"


def make_night(folder: Path, task: str, n: int, seed: int = 1) -> Path:
    """A night of one kind of object."""
    from transforms.simulate.night import Size, write_night

    write_night(folder, seed, Size(**{k: v * n for k, v in KINDS[task].items()}, broken=False))
    return folder / "night"


def throughput(folder: Path, n: int, rounds: int, tasks: list[str], timings: Path) -> list[str]:
    """Objects a second of the three routes, and ours over the others.

    Each timing is kept in ``timings`` as soon as it is taken, with the load of the machine before it, so that rounds
    that take hours can be stopped and gone on with; it is deleted once all are there.
    """
    from benchmarks.routes import ROUTES, ours, timed

    lines = [
        "| task | n | ours, objects/s | over the bare stages | over the script | CPU s: ours, bare, script |",
        "|---|---:|---:|---:|---:|---|",
    ]
    kept = json.loads(timings.read_text(encoding="utf-8")) if timings.exists() else {}
    for task in tasks:
        night = make_night(folder / task, task, n)
        times: dict[str, list[list[float]]] = kept.setdefault(f"{task} {n}", {route: [] for route in ROUTES})
        few = make_night(folder / f"{task}-few", task, 20)
        for route in ROUTES:  # warms caches and is not counted
            timed(route, few, (task,), folder / f"out-{route}")
        ours(few, (task,), folder / "out-ours", processes=2)
        for number in range(rounds):
            for route in (route for route in ROUTES if len(times[route]) <= number):
                load = os.getloadavg()[0]
                times[route].append([*timed(route, night, (task,), folder / f"out-{route}"), load])
                timings.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
                print(task, route, *(f"{value:.1f}" for value in times[route][-1]), flush=True)
        wall = {route: [t[0] for t in took] for route, took in times.items()}
        cpu = {route: statistics.median(t[1] for t in took) for route, took in times.items()}
        count = round(times["ours"][0][2])
        lines.append(
            f"| `{task}` | {count} | {count / statistics.median(wall['ours']):.1f} | "
            f"{_faster(wall['bare'], wall['ours'])} | {_faster(wall['script'], wall['ours'])} | "
            f"{cpu['ours']:.1f}, {cpu['bare']:.1f}, {cpu['script']:.1f} |"
        )
        print(lines[-1], flush=True)
    timings.unlink(missing_ok=True)
    return lines


def _faster(other: list[float], ours: list[float]) -> str:
    """The median over the rounds of how much longer the other took, and its range.

    Each round is compared within itself: rounds of several days meet a machine that is twice as fast on one of them.
    """
    ratios = sorted(a / b for a, b in zip(other, ours, strict=True))
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


class Watched(NamedTuple):
    """What a command took: wall and CPU seconds, and peak resident memory of its whole process tree in MB."""

    wall: float
    cpu: float
    peak: float


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def watched(command: list[str]) -> Watched:
    """Run a command in a process of its own."""
    started, before, peak = time.perf_counter(), _cpu(), 0.0
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    tree = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            total = sum(p.memory_info().rss for p in (tree, *tree.children(recursive=True)))
            peak = max(peak, total / 1e6)
        except psutil.Error:
            pass
        time.sleep(0.1)
    if process.returncode:
        raise RuntimeError(f"{command} exited with {process.returncode}")
    return Watched(time.perf_counter() - started, _cpu() - before, peak)


def run_command(night: Path, output: Path, task: str) -> list[str]:
    """Our command in one worker process, so that memory is that of one."""
    shutil.rmtree(output, ignore_errors=True)
    command = str(Path(sys.executable).parent / "nightcat")
    places = ["--input", str(night), "--output", str(output)]
    return [command, "run", "--quiet", "--workers", "1", *places, "--night", NIGHT, "--tasks", task]


def memory(folder: Path, sizes: list[int], task: str) -> list[str]:
    """Peak memory and time of the whole command by size."""
    lines = [
        "| task | n | peak memory, MB | seconds | CPU s | CPU ms for each more object |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    before: tuple[int, float] | None = None
    for n in sizes:
        night = make_night(folder / f"{task}-{n}", task, n)
        took = watched(run_command(night, folder / "out", task))
        slope = f"{1e3 * (took.cpu - before[1]) / (n - before[0]):.2f}" if before else ""
        before = (n, took.cpu)
        lines.append(f"| `{task}` | {n} | {took.peak:.0f} | {took.wall:.1f} | {took.cpu:.1f} | {slope} |")
        print(lines[-1], flush=True)
    return lines


def start_up(folder: Path, rounds: int) -> list[str]:
    """Seconds of ``--help``, and of a run of one object to its first row and to its exit."""
    night = make_night(folder / "one", "variable_star", 1)
    help_, first, whole = [], [], []
    for _ in range(rounds):
        help_.append(watched([str(Path(sys.executable).parent / "nightcat"), "--help"]).wall)
        row, end = first_row(night, folder / "out1", "variable_star")
        first.append(row)
        whole.append(end)
    return ["| what | median, s | limit, s |", "|---|---:|---:|",
            f"| `nightcat --help` | {statistics.median(help_):.2f} | 0.5 |",
            f"| `nightcat run` of one light curve, start to first row | {statistics.median(first):.1f} | 6 |",
            f"| the same, start to exit | {statistics.median(whole):.1f} | |"]  # fmt: skip


def first_row(night: Path, output: Path, task: str) -> tuple[float, float]:
    """Seconds to the first row, as the worker's heartbeat tells it, and to the exit."""
    from pipeline.progress import read_heartbeats

    command, started, first = run_command(night, output, task), time.perf_counter(), 0.0
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        if not first and any(read_heartbeats(str(p))[0] for p in output.glob(".staging/*/.progress")):
            first = time.perf_counter() - started
        time.sleep(0.01)
    ended = time.perf_counter() - started
    if process.returncode:
        raise RuntimeError(f"{command} exited with {process.returncode}")
    return first or ended, ended


def large(folder: Path, side: int, spectra: int) -> list[str]:
    """One image of ``side`` pixels squared in one file, and a file of many spectra, each within 2 GB."""
    import numpy as np
    from astropy.io import fits

    from transforms.simulate.images import simulate_field

    night = folder / "large" / "night"
    night.mkdir(parents=True)
    field, _ = simulate_field(np.random.default_rng(3), (2048, 2048), n=20, defects=False)
    times = max(1, side // 2048)
    header = fits.Header(list(field["header"].items()))
    shape = (2048 * times, 2048 * times)
    with fits.StreamingHDU(str(night / "large.fits"), _sized(header, shape)) as stream:
        for _ in range(times):
            stream.write(np.ascontiguousarray(np.tile(field["flux"], (1, times)).astype(">f4")))
    lines = ["| file | size, MB | peak memory, MB | seconds |", "|---|---:|---:|---:|"]
    size = (night / "large.fits").stat().st_size / 1e6
    took = watched(run_command(night, folder / "out2", "galaxy_morphology"))
    lines.append(f"| image of {shape[0]} x {shape[1]} pixels | {size:.0f} | {took.peak:.0f} | {took.wall:.0f} |")
    print(lines[-1], flush=True)
    night = make_night(folder / "many", "stellar_parameters", spectra)
    for path in (night / "spectra").glob("spec-*"):
        path.unlink()
    size = sum(p.stat().st_size for p in night.rglob("*.fits")) / 1e6
    took = watched(run_command(night, folder / "out3", "stellar_parameters"))
    count = round(0.4 * spectra)
    lines.append(f"| one DESI-like file of {count} spectra | {size:.0f} | {took.peak:.0f} | {took.wall:.0f} |")
    print(lines[-1], flush=True)
    return lines


def _sized(header: object, shape: tuple[int, int]) -> object:
    from astropy.io import fits

    sized = fits.Header([("SIMPLE", True), ("BITPIX", -32), ("NAXIS", 2), ("NAXIS1", shape[1]), ("NAXIS2", shape[0])])
    sized.extend(header, unique=True)
    return sized


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--n", type=int, default=10_000, help="objects of each kind for the throughput")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds")
    parser.add_argument("--tasks", nargs="+", default=list(KINDS), choices=list(KINDS), help="of the throughput")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="sizes for the memory")
    parser.add_argument("--side", type=int, default=16_384, help="side of the large image (16384 pixels: 1.07 GB)")
    parser.add_argument("--spectra", type=int, default=12_500, help="0.4 of them lie in the one large file")
    parser.add_argument("--timings", type=Path, default=RESULTS.parent / "timings.json",
                        help="where the rounds of the throughput are kept until all are there")  # fmt: skip
    parser.add_argument("--only", nargs="+", default=list(TITLES), choices=list(TITLES))
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the figures are kept")
    options = parser.parse_args()
    kept = json.loads(options.results.read_text(encoding="utf-8")) if options.results.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in options.only:
            if part == "throughput":
                lines = throughput(folder, options.n, options.rounds, options.tasks, options.timings)
            elif part == "memory":
                lines = memory(folder, options.sizes, "variable_star")
            elif part == "start":
                lines = start_up(folder, options.rounds)
            else:
                lines = large(folder, options.side, options.spectra)
            add(kept, part, lines, options.rounds if part in ("throughput", "start") else 1)
            options.results.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    write_page(kept)


def keep(part: str, lines: list[str], rounds: int = 1, results: Path = RESULTS) -> None:
    """Put the table of a benchmark of its own, ``benchmarks.<part>``, on the page."""
    kept = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    add(kept, part, lines, rounds, f"benchmarks.{part}")
    results.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    write_page(kept)


def add(
    kept: dict[str, dict[str, object]], part: str, lines: list[str], rounds: int, module: str = "benchmarks"
) -> None:
    """Put a part's table among the results: a row replaces the one with the same beginning."""
    command = shlex.join(["python", "-m", module, *sys.argv[1:]])
    load = f"load average {os.getloadavg()[0]:.1f} at the end"
    machine = f"{platform.machine()}, {os.cpu_count()} cores, one torch thread"
    old = kept.get(part, {}).get("rows", {})
    rows = {
        _key(line, lines[0]): {"row": line, "how": f"`{command}`, {rounds} round{'s' * (rounds > 1)}, {load}"}
        for line in lines[2:]
    }
    same = old if kept.get(part, {}).get("head") == lines[:2] else {}
    kept[part] = {"head": lines[:2], "rows": {**same, **rows}, "machine": machine}  # type: ignore[dict-item]


def _key(line: str, head: str) -> str:
    """What was measured, and on how many where that is a column."""
    return "|".join(line.split("|")[1 : 3 if " n |" in head else 2]).strip()


def write_page(kept: dict[str, dict[str, object]]) -> None:
    """Write docs/performance.md from the kept results and the sentences beside them."""
    parts = [(PARTS / "performance.md").read_text(encoding="utf-8").rstrip()]
    for part, title in TITLES.items():
        if part not in kept:
            continue
        found: dict[str, dict[str, str]] = kept[part]["rows"]  # type: ignore[assignment]
        table = "\n".join([*kept[part]["head"], *(row["row"] for row in found.values())])  # type: ignore[misc]
        how = "\n".join(dict.fromkeys(f"- {row['how']}" for row in found.values()))
        note = PARTS / f"performance_{part}.md"
        said = [note.read_text(encoding="utf-8").rstrip()] if note.exists() else []
        parts.append("\n\n".join([f"## {title}", table, f"Measured on {kept[part]['machine']}, with:\n\n{how}", *said]))
    PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
