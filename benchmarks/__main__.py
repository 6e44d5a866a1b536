"""``python -m benchmarks``: every figure of docs/performance.md from one command.

Ratios are taken in one run, the routes in turn (ours, bare, script, ours, ...), medians over the rounds. Peak memory is
that of the whole process tree, sampled ten times a second, of a fresh process for each size.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
KINDS = {
    "galaxy_morphology": {"fields": 0, "stamps": 1, "spectra": 0, "light_curves": 0},
    "stellar_parameters": {"fields": 0, "stamps": 0, "spectra": 1, "light_curves": 0},
    "variable_star": {"fields": 0, "stamps": 0, "spectra": 0, "light_curves": 1},
}
NIGHT = "2026-11-24"


def make_night(folder: Path, task: str, n: int, seed: int = 1) -> Path:
    """A night of one kind of object."""
    from transforms.simulate.night import Size, write_night

    write_night(folder, seed, Size(**{k: v * n for k, v in KINDS[task].items()}, broken=False))
    return folder / "night"


def throughput(folder: Path, n: int, rounds: int, tasks: list[str]) -> list[str]:
    """Objects a second of the three routes, and ours over the others."""
    from benchmarks.routes import ROUTES, timed

    lines = [
        "| task | n | ours, objects/s | over the bare stages | over the script | CPU s: ours, bare, script |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for task in tasks:
        night = make_night(folder / task, task, n)
        times: dict[str, list[tuple[float, float, int]]] = {route: [] for route in ROUTES}
        for round_ in range(rounds + 1):  # the first round warms caches and is not counted
            for route in ROUTES:
                took = timed(route, night, (task,), folder / f"out-{route}")
                if round_:
                    times[route].append(took)
        wall = {route: statistics.median(t[0] for t in took) for route, took in times.items()}
        cpu = {route: statistics.median(t[1] for t in took) for route, took in times.items()}
        count = times["ours"][0][2]
        lines.append(
            f"| `{task}` | {count} | {count / wall['ours']:.1f} | {wall['bare'] / wall['ours']:.2f} | "
            f"{wall['script'] / wall['ours']:.2f} | {cpu['ours']:.1f}, {cpu['bare']:.1f}, {cpu['script']:.1f} |"
        )
        print(lines[-1], flush=True)
    return lines


def watched(command: list[str]) -> tuple[float, float]:
    """Run a command; wall seconds and peak resident memory of its whole process tree in MB."""
    started, peak = time.perf_counter(), 0.0
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
    return time.perf_counter() - started, peak


def run_command(night: Path, output: Path, task: str) -> list[str]:
    shutil.rmtree(output, ignore_errors=True)
    command = str(Path(sys.executable).parent / "nightcat")
    places = ["--input", str(night), "--output", str(output)]
    return [command, "run", "--quiet", *places, "--night", NIGHT, "--tasks", task]


def memory(folder: Path, sizes: list[int], task: str) -> list[str]:
    """Peak memory and time of the whole command by size."""
    lines = ["| task | n | peak memory, MB | seconds |", "|---|---:|---:|---:|"]
    for n in sizes:
        night = make_night(folder / f"{task}-{n}", task, n)
        seconds, peak = watched(run_command(night, folder / "out", task))
        lines.append(f"| `{task}` | {n} | {peak:.0f} | {seconds:.1f} |")
        print(lines[-1], flush=True)
    return lines


def start_up(folder: Path, rounds: int) -> list[str]:
    """Seconds of ``--help``, and of a run of one object, which is nearly all start-up."""
    night = make_night(folder / "one", "variable_star", 1)
    help_, first = [], []
    for _ in range(rounds):
        help_.append(watched([str(Path(sys.executable).parent / "nightcat"), "--help"])[0])
        first.append(watched(run_command(night, folder / "out1", "variable_star"))[0])
    return ["| what | median, s | limit, s |", "|---|---:|---:|",
            f"| `nightcat --help` | {statistics.median(help_):.2f} | 0.5 |",
            f"| `nightcat run` of one light curve, start to exit | {statistics.median(first):.1f} | 6 |"]  # fmt: skip


def large(folder: Path, side: int, spectra: int) -> list[str]:
    """One image of ``side`` pixels squared in one file, and a file of many spectra, each within 2 GB."""
    import numpy as np
    from astropy.io import fits

    from transforms.simulate.images import simulate_field

    night = folder / "large" / "night"
    night.mkdir(parents=True)
    field, _ = simulate_field(np.random.default_rng(3), (2048, 2048), n=200, defects=False)
    times = max(1, side // 2048)
    header = fits.Header(list(field["header"].items()))
    shape = (2048 * times, 2048 * times)
    with fits.StreamingHDU(str(night / "large.fits"), _sized(header, shape)) as stream:
        for _ in range(times):
            stream.write(np.ascontiguousarray(np.tile(field["flux"], (1, times)).astype(">f4")))
    lines = ["| file | size, MB | peak memory, MB | seconds |", "|---|---:|---:|---:|"]
    size = (night / "large.fits").stat().st_size / 1e6
    seconds, peak = watched(run_command(night, folder / "out2", "galaxy_morphology"))
    lines.append(f"| image of {shape[0]} x {shape[1]} pixels | {size:.0f} | {peak:.0f} | {seconds:.0f} |")
    night = make_night(folder / "many", "stellar_parameters", spectra)
    for path in (night / "spectra").glob("spec-*"):
        path.unlink()
    size = sum(p.stat().st_size for p in night.rglob("*.fits")) / 1e6
    seconds, peak = watched(run_command(night, folder / "out3", "stellar_parameters"))
    lines.append(f"| one DESI-like file of {round(0.4 * spectra)} spectra | {size:.0f} | {peak:.0f} | {seconds:.0f} |")
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
    parser.add_argument("--only", nargs="+", default=["throughput", "memory", "start", "large"])
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "performance.md", help="page to write")
    options = parser.parse_args()
    parts: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "throughput" in options.only:
            parts["Throughput"] = throughput(folder, options.n, options.rounds, options.tasks)
        if "memory" in options.only:
            parts["Memory and time by size"] = memory(folder, options.sizes, "variable_star")
        if "start" in options.only:
            parts["Start"] = start_up(folder, options.rounds)
        if "large" in options.only:
            parts["Large files"] = large(folder, options.side, options.spectra)
    command = "python -m benchmarks " + " ".join(sys.argv[1:])
    load = os.getloadavg()
    head = (
        f"Written by `{command.strip()}` on {platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"load average {load[0]:.1f} at the end; one torch thread. Ratios are of medians of {options.rounds} rounds; "
        "above 1 means that ours is faster."
    )
    body = "\n\n".join(f"## {title}\n" + "\n".join(lines) for title, lines in parts.items())
    options.output.write_text(f"# Performance\n\n{head}\n\n{body}\n", encoding="utf-8")
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
