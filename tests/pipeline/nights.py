"""A toy table and helpers that stage and commit small nights without a model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.catalog import REJECTS, StagedFile, data_path, encode, to_table
from pipeline.commit import commit, recover, staging_folder
from pipeline.ledger import Ledger
from pipeline.manifest import make_run_id
from pipeline.sky import place
from pipeline.sources import Inputs
from transforms.columns import FLOAT32, FLOAT64, IDENTITY, PROVENANCE, STRING, Column, unique
from transforms.columns import REJECTS as REJECT_COLUMNS
from transforms.records import FileRef, Reject
from transforms.store import Store

COLUMNS = unique(
    (
        *IDENTITY,
        Column("teff", FLOAT32, "K", "phys.temperature.effective", "Effective temperature"),
        Column("logg", FLOAT64, "dex(cm / s2)", "phys.gravity", "Surface gravity; <log10> & more"),
        Column("kind", STRING, "", "src.class", "Class"),
        *PROVENANCE,
    )
)
TABLES = {"toy": COLUMNS}


def file(name: str, digest: str | None = None, url: str | None = None) -> FileRef:
    return FileRef(url=url or f"/in/{name}", source=name, size=10, digest=digest or f"d-{name}")


def rows(source: str, n: int = 5, *, night: str = "2026-11-24", ra: float | None = 40.0, seed: int = 0, **more: Any):
    """Rows of one file, scattered over some degrees around a place, or without position."""
    rng = np.random.default_rng([seed, *source.encode()])
    return [
        {
            "object_id": f"{source}-{i}",
            "ra": None if ra is None else float(ra + rng.uniform(-8, 8)),
            "dec": None if ra is None else float(rng.uniform(-8, 8)),
            "night": night,
            "mjd": 61000.0 + i,
            "time_scale": "utc",
            "flags": 0,
            "teff": float(rng.uniform(4000, 7000)),
            "logg": None if i % 3 == 0 else float(rng.uniform(0, 5)),
            "kind": None if i % 2 else "star",
            "source": source,
            "hdu": "",
            "row": i,
            "task": "toy",
            "model_digest": "0123456789abcdef",
            "package_version": "0.1",
            **more,
        }
        for i in range(n)
    ]


def staged_file(data: bytes, path: str, table: str, kind: str, pixel: int, rows: int) -> StagedFile:
    digest = hashlib.sha256(data).hexdigest()
    return StagedFile(path=path, table=table, kind=kind, pixel=pixel, rows=rows, size=len(data), sha256=digest)


def stage(
    root: str,
    run_id: str,
    made: Sequence[dict],
    refused: Sequence[Reject] = (),
    night: str = "",
    columns=COLUMNS,
    table: str = "toy",
):
    """What ``StageTables`` does, without Beam."""
    staging, files = Store(staging_folder(root, run_id)), []

    def put(part: Any, name: str, kind: str, pixel: int, of: Any) -> None:
        path = data_path(name, kind, 3, pixel, run_id)
        data = encode(part, of, name)
        staging.write(path, data)
        files.append(staged_file(data, path, name, kind, pixel, part.num_rows))

    if made:
        for kind, pixel, part in place(to_table(made, columns, table), 3):
            put(part, table, kind, pixel, columns)
    if refused:
        plain = [{**{f: getattr(r, f) for f in r.__slots__}, "night": night, "package_version": "0.1"} for r in refused]
        put(to_table(plain, REJECT_COLUMNS, REJECTS), REJECTS, REJECTS, -1, REJECT_COLUMNS)
    return files


def run(
    root: str,
    files: Sequence[FileRef],
    *,
    night: str = "2026-11-24",
    versions: str = "v1",
    force: bool = False,
    bad: Sequence[str] = (),
    n: int = 5,
    ra: float | None = 40.0,
    columns=COLUMNS,
    **more: Any,
) -> str | None:
    """One run of a night, as the command does it; a file in ``bad`` becomes a reject. Returns the run's id."""
    recover(root)
    made_by = {"toy": versions}
    work = Ledger(root).plan(Inputs(tuple(files)), night, made_by, force)
    if not work.inputs.files:
        return None
    run_id = make_run_id(night, [(f.source, f.digest) for f in work.inputs.files], made_by)
    made = [r for f in work.inputs.files if f.source not in bad for r in rows(f.source, n, night=night, ra=ra, **more)]
    refused = [
        Reject(source=f.source, stage="open", error="Unreadable", reason="torn", digest=f.digest, url=f.url)
        for f in work.inputs.files
        if f.source in bad
    ]
    fields = {
        "night": night,
        "versions": made_by,
        "order": 3,
        "supersedes": work.supersedes,
        "replays": work.replays,
        "listed": work.listed,
        "stages": stages(len(work.inputs.files), len(made), len(refused)),
    }
    commit(root, run_id, stage(root, run_id, made, refused, night, columns), fields, work.inputs)
    return run_id


def stages(files: int, made: int, refused: int) -> dict[str, dict[str, int]]:
    good = files - refused
    one = {"entered": made, "done": made, "rejected": 0, "out": made}
    return {
        "ingest": {"entered": files, "done": files, "rejected": 0, "out": files},
        "open": {"entered": files, "done": good, "rejected": refused, "out": made},
        **{name: dict(one) for name in ("read", "measure", "prepare", "infer")},
    }


def contents(root: str) -> dict[str, bytes]:
    """Every file of a catalog but its lock."""
    store = Store(root)
    return {path: store.read(path) for path in store.find() if path != ".lock"}
