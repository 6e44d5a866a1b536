"""The law of ``pipeline.plan``: whatever ran before, a last run over everything gives what a fresh catalog gives."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.catalog import REJECTS, UNPLACED, data_path, decode, encode, to_table
from pipeline.commit import commit, recover, staging_folder
from pipeline.ledger import Ledger
from pipeline.manifest import make_run_id
from pipeline.sources import DUPLICATE, Inputs, duplicate
from pipeline.verify import verify
from tests.pipeline.nights import COLUMNS, rows, staged_file
from transforms.columns import REJECTS as REJECT_COLUMNS
from transforms.records import FileRef, Reject
from transforms.store import Store

NIGHT = "2026-11-24"
PLACES = ("/in/a", "/in/b", "/in/c", "/other/a")
TASKS = ("other", "toy")
EMPTY, GONE = "empty", "gone"
BAD = ("bad", "worse")  #: Of these, each task refuses one object and the reader another.


def look(sky: Mapping[str, str]) -> Inputs:
    """What ``find_files`` and ``fingerprint`` make of a state of the disk."""
    files: dict[str, FileRef] = {}
    rejects = []
    names = Counter(url.rpartition("/")[2] for url in sky)
    for url in sorted(sky):
        name = url.rpartition("/")[2]
        source = url if names[name] > 1 else name
        file = FileRef(url=url, source=source, size=0 if sky[url] == EMPTY else 10, digest=f"d-{sky[url]}")
        if sky[url] == GONE:
            rejects.append(Reject(source=source, stage="ingest", error="FileNotFoundError", reason="gone", url=url))
        elif file.size and file.digest in files:
            rejects.append(duplicate(file, files[file.digest]))
        else:
            files[file.digest if file.size else url] = file
    return Inputs(tuple(files.values()), tuple(rejects))


def refusals(file: FileRef, tasks: Iterable[str]) -> list[Reject]:
    where: dict[str, Any] = {"source": file.source, "digest": file.digest, "url": file.url}
    if not file.size:
        return [Reject(stage="ingest", error="Unreadable", reason="file is empty", **where)]
    if file.digest.removeprefix("d-") not in BAD:
        return []
    of_tasks = [Reject(stage="infer", task=t, error="Unusable", reason=f"not for {t}", row=7, **where) for t in tasks]
    return [Reject(stage="read", error="Unusable", reason="torn", row=8, **where), *of_tasks]


def run(root: str, inputs: Inputs, versions: Mapping[str, str], force: bool = False) -> None:
    """One run of a night with one table for each task."""
    recover(root)
    work = Ledger(root).plan(inputs, NIGHT, versions, force)
    if not work.inputs.files and not work.inputs.rejects:
        return
    parts = [(f.source, f.digest) for f in work.inputs.files] + [(r.source, r.reason) for r in work.inputs.rejects]
    run_id = make_run_id(NIGHT, parts, versions)
    staging, staged = Store(staging_folder(root, run_id)), []

    def put(name: str, kind: str, made: Sequence[dict[str, Any]], columns: Any) -> None:
        if made:
            path = data_path(name, kind, 3, -1, run_id)
            data = encode(to_table(made, columns, name), columns, name)
            staging.write(path, data)
            staged.append(staged_file(data, path, name, kind, -1, len(made)))

    count = 0
    for task in versions:
        made = [
            {**row, "object_id": f"{file.digest}-{row['row']}", "task": task, "kind": versions[task]}
            for file in work.inputs.files
            if file.size
            for row in rows(file.source, 2, ra=None)
        ]
        put(task, UNPLACED, made, COLUMNS)
        count += len(made)
    refused = [*work.inputs.rejects, *(r for file in work.inputs.files for r in refusals(file, versions))]
    said = [{**{f: getattr(r, f) for f in r.__slots__}, "night": NIGHT, "package_version": "0.1"} for r in refused]
    put(REJECTS, REJECTS, said, REJECT_COLUMNS)
    fields = {
        "night": NIGHT, "versions": dict(versions), "order": 3, "supersedes": work.supersedes, "replays": work.replays,
        "listed": work.listed, "tasks_per_record": [1, 2],
    }  # fmt: skip
    commit(root, run_id, staged, fields, work.inputs)


def content(root: str) -> tuple[Counter[Any], Counter[Any]]:
    """Rows by table, object and version, and rejects by what they say, whichever copy gave them."""
    ledger = Ledger(root)
    found: Counter[Any] = Counter()
    for one in ledger.runs():
        for file in one.files:
            if file.kind == UNPLACED:
                table = decode(ledger.store.read(file.path)).to_pylist()
                found.update((file.table, row["object_id"], row["kind"]) for row in table)
    rejects = Counter((r["digest"], r["stage"], r["task"], r["error"], r["row"]) for r in ledger.rejects())
    return found, rejects


def equal_to_fresh(root: str, sky: Mapping[str, str], versions: Mapping[str, str]) -> None:
    with tempfile.TemporaryDirectory() as fresh:
        run(fresh, look(sky), versions)
        assert content(root) == content(fresh)


BOTH = {"other": "v1", "toy": "v1"}
skies = st.fixed_dictionaries({url: st.sampled_from(("x", "y", *BAD, EMPTY)) for url in PLACES})
steps = st.lists(
    st.tuples(
        st.fixed_dictionaries({url: st.sampled_from(("x", "y", *BAD, EMPTY, GONE)) for url in PLACES}),
        st.sets(st.sampled_from(PLACES), min_size=1),
        st.sets(st.sampled_from(TASKS), min_size=1),
        st.sampled_from(("v1", "v2")),
        st.booleans(),
    ),
    max_size=4,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(steps, skies)
def test_the_last_run_over_everything_gives_what_a_fresh_catalog_gives(before: Any, last: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as root:
        for sky, seen, tasks, version, force in before:
            run(root, look({url: sky[url] for url in seen}), dict.fromkeys(sorted(tasks), version), force)
            assert verify(root) == []
        run(root, look(last), BOTH)
        assert verify(root) == []
        equal_to_fresh(root, last, BOTH)
        plan = Ledger(root).plan(look(last), NIGHT, BOTH)
        assert (plan.inputs.files, plan.inputs.rejects) == ((), ())


def test_a_copy_takes_no_row_away(tmp_path) -> None:
    root = str(tmp_path)
    run(root, look({"/in/b": "x"}), BOTH)
    run(root, look({"/in/a": "x", "/in/b": "x"}), BOTH)
    equal_to_fresh(root, {"/in/a": "x", "/in/b": "x"}, BOTH)
    (copy,) = Ledger(root).rejects()
    assert (copy["source"], copy["error"]) == ("a", DUPLICATE)
    assert copy["reason"] == "a has the same bytes as b, which was processed"


def test_forcing_the_original_leaves_the_copy_listed(tmp_path) -> None:
    root = str(tmp_path)
    run(root, look({"/in/a": "x", "/in/c": "x"}), BOTH)
    run(root, look({"/in/a": "x"}), BOTH, force=True)
    equal_to_fresh(root, {"/in/a": "x", "/in/c": "x"}, BOTH)


def test_rows_of_a_file_that_cannot_be_read_just_now_stay(tmp_path) -> None:
    root = str(tmp_path)
    run(root, look({"/in/a": "bad", "/in/b": "y"}), BOTH)
    before = content(root)[0]
    run(root, look({"/in/a": GONE, "/in/b": "y"}), BOTH)
    assert content(root)[0] == before
    assert [r["error"] for r in Ledger(root).rejects()] == ["FileNotFoundError"]
    assert verify(root) == []
    run(root, look({"/in/a": "bad", "/in/b": "y"}), BOTH)
    equal_to_fresh(root, {"/in/a": "bad", "/in/b": "y"}, BOTH)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_run_of_other_tasks_leaves_the_rows_of_the_first(tmp_path, version: str) -> None:
    root = str(tmp_path)
    run(root, look({"/in/a": "bad"}), {"toy": "v1"})
    run(root, look({"/in/a": "bad"}), {"other": version})
    found, rejects = content(root)
    assert found == {(task, f"d-bad-{i}", v): 1 for task, v in (("toy", "v1"), ("other", version)) for i in (0, 1)}
    assert sorted((stage, task) for _, stage, task, _, _ in rejects.elements()) == [
        ("infer", "other"), ("infer", "toy"), ("read", ""),
    ]  # fmt: skip
    assert verify(root) == []


def test_an_empty_file_is_known_by_its_place(tmp_path) -> None:
    root = str(tmp_path)
    run(root, look({"/in/a": EMPTY}), BOTH)
    run(root, look({"/in/a": EMPTY, "/in/b": EMPTY}), BOTH)
    assert sorted(r["source"] for r in Ledger(root).rejects()) == ["a", "b"]


def test_a_changed_file_replaces_its_rows_under_whatever_name(tmp_path) -> None:
    root = str(tmp_path)
    run(root, look({"/in/a": "x"}), BOTH)
    renamed = look({"/in/a": "y"}).files[0]
    run(root, Inputs((FileRef(url=renamed.url, source="in/a", size=10, digest=renamed.digest),)), BOTH)
    equal_to_fresh(root, {"/in/a": "y"}, BOTH)


def test_a_folder_that_can_be_listed_again_leaves_the_rejects(tmp_path) -> None:
    root = str(tmp_path)
    closed = Reject(source="deep", stage="ingest", error="PermissionError", reason="closed", url="/in/deep")
    run(root, Inputs(look({"/in/a": "x"}).files, (closed,)), BOTH)
    assert [r["source"] for r in Ledger(root).rejects()] == ["deep"]
    below = FileRef(url="/in/deep/z", source="deep/z", size=10, digest="d-z")
    run(root, Inputs((*look({"/in/a": "x"}).files, below)), BOTH)
    assert Ledger(root).rejects() == []
    assert verify(root) == []


@pytest.mark.parametrize(
    ("one", "beside"),
    [
        ("c4d_1_ooi_r.fits", "c4d_1_oow_r.fits"),
        ("SIM-01_PHOT.FITS", "SIM-01_HEAD.FITS"),
        ("SIM-01_PHOT.FITS.gz", "SIM-01_HEAD.FITS"),
        ("coadd-main-7.fits", "redrock-main-7.fits"),
    ],
)
def test_a_changed_companion_takes_its_file_along(tmp_path, one: str, beside: str) -> None:
    root = str(tmp_path)
    image = FileRef(url=f"/in/{one}", source=one, size=10, digest="i")
    weight = FileRef(url=f"/in/{beside}", source=beside, size=10, digest="w")
    run(root, Inputs((image, weight)), BOTH)
    newer = FileRef(url=weight.url, source=weight.source, size=10, digest="w2")
    work = Ledger(root).plan(Inputs((image, newer)), NIGHT, BOTH)
    assert [f.source for f in work.inputs.files] == sorted([image.source, weight.source])
    assert Ledger(root).plan(Inputs((image, weight)), NIGHT, BOTH).inputs.files == ()
