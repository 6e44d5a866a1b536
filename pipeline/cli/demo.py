"""Commands on a simulated night: simulate and demo."""

from __future__ import annotations

import shutil
import time
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import Any

from pipeline.cli import EXIT_FOUND, EXIT_OK, EXIT_OUTPUT, EXIT_USAGE, main
from pipeline.cli.display import fail, show, show_table

NIGHT = "2026-11-24"
MARKER = ".nightcat-demo"  #: Hidden file in each folder that ``demo`` wrote, and so may remove.
PARTS = ("night", "truth", "catalog", "report.html")
REPORT_TITLE = f"nightcat: simulated night {NIGHT}"


def simulate(options: Namespace) -> int:
    """Write a simulated night of files with its truth.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code.
    """
    from pipeline.quiet import quiet_libraries
    from transforms.simulate.night import Size, write_night

    try:
        with quiet_libraries(None):
            counts = write_night(Path(options.output), options.seed, Size().scaled(options.scale))
    except FileExistsError as error:
        return fail(f"{error.filename} is there already: name another folder, or remove it", EXIT_OUTPUT)
    except OSError as error:
        return fail(f"cannot write {options.output!r}: {error.strerror or error}", EXIT_OUTPUT)
    text = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counts.items())
    show(
        options,
        {"night": f"{options.output}/night", **counts},
        f"{options.output}/night: {text}; truth in {options.output}/truth",
    )
    return EXIT_OK


def demo(options: Namespace) -> int:
    """Simulate a night, process it, verify the catalog and judge it against the truth.

    Parameters
    ----------
    options : Namespace
        Command-line options.

    Returns
    -------
    int
        Exit code of the first command that fails, else 0; 2 where the folder holds what no demo has written.
    """
    try:
        return _demo(options)
    except OSError as error:
        return fail(f"cannot write {error.filename or options.directory}: {error.strerror or error}", EXIT_OUTPUT)


def _demo(options: Namespace) -> int:
    folder = Path(options.directory)
    foreign = [part for part in PARTS if _is_foreign(folder / part)]
    if foreign:
        names = ", ".join(str(folder / part) for part in foreign)
        return fail(f"{names}: not written by nightcat demo, so not removed: name another --directory", EXIT_USAGE)
    for part in PARTS:
        if (folder / part).is_dir():
            shutil.rmtree(folder / part)
    display = ["--json"] if options.json else ["--quiet"] if options.quiet else []
    catalog = str(folder / "catalog")
    steps = (
        ["simulate", str(folder), "--seed", str(options.seed), "--scale", str(options.scale)],
        ["run", "--input", str(folder / "night"), "--output", catalog, "--night", NIGHT],
        ["verify", catalog],
        ["rejects", catalog],
    )
    started = time.monotonic()
    for step in steps:
        if not display:
            print(f"\n$ nightcat {' '.join(step)}", flush=True)
        try:
            code = main([*step, *display])
        finally:  # a demo that was cut off can be run again
            _mark(folder)
        if code:
            return code
    return _judge(options, folder, catalog, time.monotonic() - started)


def _is_foreign(path: Path) -> bool:
    """Say whether something is there that this command did not write."""
    if path.is_file():
        return REPORT_TITLE not in path.read_text(encoding="utf-8", errors="replace")[:1000]
    return path.is_symlink() or (path.exists() and not (path / MARKER).is_file())


def _mark(folder: Path) -> None:
    for part in PARTS:
        if (folder / part).is_dir():
            (folder / part / MARKER).touch()


def _judge(options: Namespace, folder: Path, catalog: str, seconds: float) -> int:
    from finetune import tasks
    from pipeline.judge import judge
    from pipeline.ledger import Ledger
    from pipeline.quiet import quiet_libraries

    with quiet_libraries(None):
        verdicts = judge(catalog, folder / "truth", tasks.names())
        rejects = Ledger(catalog).rejects()
    rows = [
        (v.task, name, *(_round(v.figures[kind].get(name)) for kind in ("learned", "classical", "best")))
        for v in verdicts
        for name in dict.fromkeys(n for figures in v.figures.values() for n in figures)
    ]
    found = [(v.task, v.truth, v.rows, v.matched) for v in verdicts]
    if not options.json:
        show(options, None, "")
    show_table(options, "against the known truth: found", ("task", "objects", "rows", "matched"), found)
    header = ("task", "figure", "learned", "classical", "best")
    show_table(options, "against the known truth: how right", header, rows)
    report = folder / "report.html"
    report.write_text(_page(seconds, found, header, rows, rejects), encoding="utf-8")
    show(
        options,
        {"catalog": catalog, "report": str(report), "seconds": round(seconds, 1)},
        f"\n{seconds:.0f} s   catalog: {catalog}   report: {report}",
    )
    missing = [v.task for v in verdicts if not v.matched]
    return fail(f"no row of {', '.join(missing)} matches the truth", EXIT_FOUND) if missing else EXIT_OK


def _round(value: Any) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _page(seconds: float, found: list[Any], header: Any, rows: list[Any], rejects: list[dict[str, Any]]) -> str:
    from finetune.page import page, table

    reasons = Counter((r["stage"], r["error"]) for r in rejects)
    named = [(r["source"], r["hdu"], r["row"], r["stage"], r["error"], r["reason"]) for r in rejects]
    return page(
        REPORT_TITLE,
        f"{sum(f[2] for f in found)} rows and {len(rejects)} rejects in {seconds:.0f} s, judged against the truth.",
        {
            "Found": table(("task", "true objects", "rows", "matched"), found),
            "Against the truth": table(header, rows),
            "Rejects by reason": table(("stage", "error", "count"), [(*k, n) for k, n in reasons.most_common()]),
            "Every reject": table(("source", "hdu", "row", "stage", "error", "reason"), named),
        },
    )
