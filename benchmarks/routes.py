"""Three routes from files to Parquet that do the same science: ours, the bare stages in a plain loop, and a script.

The script is what a user would write: a torch DataLoader with two workers that read and measure, batches through the
model as transformers has it, one pyarrow table at the end. All three use the same readers and steps; libraries and
models of all three are loaded before the clock starts, and each may start as many processes as there are processors.
"""

from __future__ import annotations

import atexit
import shutil
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from finetune.bundle import bundled, load_bundle
from finetune.predict import make_predictor, preload
from pipeline.models import Model, resolve_models
from pipeline.nights import run_nights
from pipeline.options import RunConfig
from pipeline.sources import find_files, fingerprint
from pipeline.tables import table_columns
from pipeline.workers import Workers
from transforms.attempt import Tallies
from transforms.ingest import ingest
from transforms.objects import Ready, answer, expand
from transforms.records import Item, Reject


@cache
def models(tasks: tuple[str, ...]) -> tuple[Model, ...]:
    """The models that ship, loaded once for all routes of this process."""
    found = resolve_models(tasks, {}, "cpu", "fp32", 1)
    for model in found:
        preload(model.path, device="cpu", dtype="fp32", threads=1, embeddings=False)
    return found


def predictor(task: str) -> Any:
    """The model of a task."""
    return models((task,))[0].loader()


@cache
def trained(task: str) -> Any:
    """The same model as transformers has it, as a user's script would load it."""
    bundle = load_bundle(bundled(task))
    task_ = bundle.task()
    info = bundle.info
    return make_predictor(
        task_, bundle.models(task_), bundle.baseline(task_), calibration=info.calibration, rule=info.rule
    )


def items(folder: Path, tasks: tuple[str, ...]) -> list[Item]:
    records = tuple({m.record for m in models(tasks)})
    return [item for file in fingerprint(find_files([str(folder)])).files for item in ingest(file, {}, records)]


@cache
def workers() -> Workers:
    """The source of our worker processes: like the libraries of the other routes it is there before the clock starts."""
    source = Workers()
    atexit.register(source.close)
    return source


def ours(folder: Path, tasks: tuple[str, ...], output: Path, processes: int | str = "auto") -> int:
    """The whole pipeline, ledger, digests, catalog, margins and commit included."""
    shutil.rmtree(output, ignore_errors=True)
    config = RunConfig(inputs=(str(folder),), output=str(output), night="2026-11-24", tasks=tasks, workers=processes)
    (result,) = run_nights(config, models(tasks), workers=workers())
    return sum(result.rows.values())


def bare(folder: Path, tasks: tuple[str, ...], output: Path) -> int:
    """Each stage in a plain loop: read, measure, prepare, predict, write; no Beam, no threads, one file a table."""
    predictors = [predictor(task) for task in tasks]
    tallies = Tallies()
    batches: list[list[Ready]] = [[] for _ in tasks]
    rows: dict[str, list[dict[str, Any]]] = {task: [] for task in tasks}
    for item in items(folder, tasks):
        for ready in expand(item, predictors, tallies, {}, {"threshold": 4.5}):
            if isinstance(ready, Reject):
                continue
            batches[ready.index].append(ready)
            if len(batches[ready.index]) == predictors[ready.index].batch_size:
                rows[tasks[ready.index]] += answer(batches[ready.index], predictors[ready.index], tallies)
                batches[ready.index] = []
    for index, batch in enumerate(batches):
        if batch:
            rows[tasks[index]] += answer(batch, predictors[index], tallies)
    return _write(rows, output)


def script(folder: Path, tasks: tuple[str, ...], output: Path) -> int:
    """DataLoader with two workers, batches through the model, pyarrow."""
    from torch.utils.data import DataLoader, IterableDataset, get_worker_info

    todo = items(folder, tasks)
    predictors = [trained(task) for task in tasks]

    class Objects(IterableDataset):
        def __iter__(self) -> Iterator[Ready]:
            worker = get_worker_info()
            for item in todo[worker.id :: worker.num_workers]:
                for ready in expand(item, predictors, Tallies(), {}, {"threshold": 4.5}):
                    if not isinstance(ready, Reject):
                        yield ready

    rows: dict[str, list[dict[str, Any]]] = {task: [] for task in tasks}
    waiting: list[list[Ready]] = [[] for _ in tasks]
    for batch in DataLoader(Objects(), batch_size=8, num_workers=2, collate_fn=list, prefetch_factor=4):
        for ready in batch:
            queue = waiting[ready.index]
            queue.append(ready)
            if len(queue) == predictors[ready.index].batch_size:
                rows[tasks[ready.index]] += answer(queue, predictors[ready.index], Tallies())
                waiting[ready.index] = []
    for index, batch in enumerate(waiting):
        if batch:
            rows[tasks[index]] += answer(batch, predictors[index], Tallies())
    return _write(rows, output)


def _write(rows: dict[str, list[Any]], output: Path) -> int:
    output.mkdir(parents=True, exist_ok=True)
    for task, found in rows.items():
        names = [column.name for column in table_columns(task)]
        good = [row for row in found if not isinstance(row, Reject)]
        pq.write_table(
            pa.table({n: [row.get(n) for row in good] for n in names}), output / f"{task}.parquet", compression="zstd"
        )
    return sum(len(found) for found in rows.values())


ROUTES = {"ours": ours, "bare": bare, "script": script}


def timed(route: str, folder: Path, tasks: tuple[str, ...], output: Path) -> tuple[float, float, int]:
    """Wall seconds, CPU seconds of this process and all its children, and rows of one route."""
    before, started = _cpu(), time.perf_counter()
    count = ROUTES[route](folder, tasks, output)
    return time.perf_counter() - started, _cpu() - before, count


def _cpu() -> float:
    """CPU seconds until now, of children that live on, and theirs, too."""
    me = psutil.Process()
    return sum(sum(process.cpu_times()[:4]) for process in (me, *me.children()))
