from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

import pyarrow.parquet as pq
import pytest

from pipeline import assemble, catalog
from pipeline import commit as room
from pipeline.catalog import StagedFile, decode
from pipeline.commit import CatalogBusy, check_catalog, lock, recover, staging_folder
from pipeline.hats import CatalogError
from pipeline.ledger import Ledger
from pipeline.verify import verify
from tests.pipeline.nights import COLUMNS, contents, file, rows, run, stage
from transforms.columns import FLOAT32, INT64, Column
from transforms.store import OutputError, Store

A, B, C = file("a"), file("b"), file("c")
SECOND = "2026-11-25"
CHANGES = ("create", "move", "remove", "remove_tree")  #: ``write`` goes through ``create``.


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def die_at(monkeypatch: pytest.MonkeyPatch, n: int, *, after: bool) -> None:
    """Let the n-th change of the storage be the last one, done or not done."""
    left = [n]

    def wrap(name: str) -> None:
        real = getattr(Store, name)

        def dies() -> bool:
            left[0] -= 1
            if left[0] < 0 or (left[0] == 0 and not after):
                raise Killed
            return left[0] == 0

        def step(self: Store, *args: object, **named: bool) -> None:
            last = dies()
            real(self, *args, **named)
            if last:
                raise Killed

        @contextmanager
        def create(self: Store, *args: object, **named: bool) -> Iterator[IO[bytes]]:
            last = dies()
            with real(self, *args, **named) as stream:
                yield stream
            if last:
                raise Killed

        monkeypatch.setattr(Store, name, create if name == "create" else step)

    for name in CHANGES:
        wrap(name)


def history(root: str) -> None:
    """A night with a reject and a late file, a second night, then both files of the first done again, one carried."""
    run(root, [A, B, C], bad=["c"])
    run(root, [file("late")], ra=42.0)
    run(root, [file("d")], night=SECOND, ra=90.0)


def redo(root: str) -> str | None:
    return run(root, [A, C], versions="v2")


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog with a history, to copy."""
    root = tmp_path_factory.mktemp("past") / "catalog"
    history(str(root))
    return root


def copy(past: Path, to: Path) -> str:
    return str(shutil.copytree(past, to))


@pytest.fixture(scope="module")
def undisturbed(past: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    root = copy(past, tmp_path_factory.mktemp("whole") / "catalog")
    assert redo(root)
    assert verify(root) == []
    return contents(root)


def count_changes(root: str, monkeypatch: pytest.MonkeyPatch) -> int:
    with monkeypatch.context() as patch:
        seen = [0]
        for name in CHANGES:
            real = getattr(Store, name)

            def step(self: Store, *args: object, real=real, **named: bool) -> object:
                seen[0] += 1
                return real(self, *args, **named)

            patch.setattr(Store, name, step)
        redo(root)
    return seen[0]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, 6))])
def test_killed_at_any_change_a_second_run_gives_the_same_bytes(
    tmp_path, monkeypatch, past, undisturbed, after, part
) -> None:
    total = count_changes(copy(past, tmp_path / "count"), monkeypatch)
    assert total > 20
    for n in range(1 + part, total + 1, 6):
        root = copy(past, tmp_path / f"{n}")
        with monkeypatch.context() as patch:
            die_at(patch, n, after=after)
            with pytest.raises(Killed):
                redo(root)
        assert Ledger(root).runs("2026-11-24")  # a reader of manifests always finds the night
        redo(root)
        assert contents(root) == undisturbed, f"killed at change {n} of {total}"


def test_recover_may_itself_be_killed(tmp_path, monkeypatch, past, undisturbed) -> None:
    total = count_changes(copy(past, tmp_path / "count"), monkeypatch)
    root = copy(past, tmp_path / "catalog")
    with monkeypatch.context() as patch:
        die_at(patch, total // 2, after=True)
        with pytest.raises(Killed):
            redo(root)
    for n in (1, 2, 3, 5):
        with monkeypatch.context() as patch:
            die_at(patch, n, after=True)
            with pytest.raises(Killed):
                recover(root)
    redo(root)
    assert contents(root) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 12, 20])
def test_a_process_that_is_killed_for_real(tmp_path, past, undisturbed, n) -> None:
    root = copy(past, tmp_path / "catalog")
    script = (
        "import os, signal, sys\n"
        "from tests.pipeline import test_commit as t\n"
        "from _pytest.monkeypatch import MonkeyPatch\n"
        f"t.die_at(MonkeyPatch(), {n}, after=True)\n"
        "t.Killed.__init__ = lambda self: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"t.redo({root!r})\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    redo(root)
    assert contents(root) == undisturbed


def test_rows_are_carried_group_by_group(tmp_path, monkeypatch, undisturbed) -> None:
    monkeypatch.setattr(assemble, "ROW_GROUP", 2)
    monkeypatch.setattr(catalog, "ROW_GROUP", 2)
    root = str(tmp_path)
    history(root)
    redo(root)
    assert verify(root) == []
    found = {path: data for path, data in contents(root).items() if path.endswith(".parquet")}
    assert {path for path in undisturbed if path.endswith(".parquet")} == found.keys()
    for path, data in found.items():
        assert decode(data).equals(decode(undisturbed[path])), path
    groups = [pq.ParquetFile(io.BytesIO(data)).num_row_groups for path, data in found.items() if "Npix" in path]
    assert max(groups) > 1


def test_staging_of_a_run_that_never_committed_goes(tmp_path, past) -> None:
    root = copy(past, tmp_path / "catalog")
    before = contents(root)
    stage(root, "2026-11-26-000000000000", rows("x"))
    orphan = "toy/toy/dataset/Norder=3/Dir=0/Npix=1/2026-11-26-000000000000.parquet"
    Store(root).write(orphan, b"left by an older program")
    Store(root).write("toy/README.md", b"of the user")
    assert [fault.what for fault in verify(root)] == ["orphan"]
    assert recover(root).removed == (orphan,)
    assert contents(root) == {**before, "toy/README.md": b"of the user"}
    assert recover(root) == room.Recovered()


def test_a_damaged_staging_is_not_committed_in_part(tmp_path) -> None:
    root, run_id = str(tmp_path), "2026-11-24-0123456789ab"
    staged = stage(root, run_id, rows("a"))
    staged.append(replace(staged[0], path=staged[0].path.replace("Npix=", "Npix=9")))
    fields = {"night": "2026-11-24", "versions": {"toy": "v1"}, "order": 3}
    from pipeline.sources import Inputs

    with pytest.raises(OSError):
        room.commit(root, run_id, staged, fields, Inputs((A,)))
    assert all(path.startswith(".staging") for path in contents(root))


def test_order_is_fixed_when_the_catalog_is_created(tmp_path) -> None:
    root = str(tmp_path)
    assert check_catalog(root, None, {}) == 3
    assert check_catalog(root, 5, {}) == 5
    run(root, [A])
    assert check_catalog(root, None, {}) == 3
    assert check_catalog(root, 3, {"toy": COLUMNS}) == 3
    with pytest.raises(CatalogError, match=r"--order 5 was given.*created with order 3"):
        check_catalog(root, 5, {})


def test_columns_may_be_added_but_not_changed(tmp_path) -> None:
    root = str(tmp_path)
    run(root, [A])
    more = (*COLUMNS, Column("age", FLOAT32, "Gyr", "time.age", "Age"))
    assert check_catalog(root, None, {"toy": more}) == 3
    run(root, [B], columns=more, age=4.5)
    assert verify(root) == []
    changed = [replace(c, unit="solRad") if c.name == "teff" else c for c in COLUMNS]
    changed[3] = replace(changed[3], type=INT64)
    with pytest.raises(CatalogError) as caught:
        check_catalog(root, 7, {"toy": tuple(changed)})
    assert len(caught.value.faults) == 3
    before = contents(root)
    with pytest.raises(CatalogError, match=r"'teff'.*'K' in the catalog and 'solRad' in this run"):
        run(root, [C], columns=tuple(replace(c, unit="solRad") if c.name == "teff" else c for c in COLUMNS))
    recover(root)
    assert contents(root) == before


def test_one_writer_at_a_time(tmp_path) -> None:
    root = str(tmp_path / "new" / "catalog")
    script = f"from pipeline.commit import lock\nwith lock({root!r}): print('held')"
    with lock(root):
        other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert "CatalogBusy" in other.stderr
        assert issubclass(CatalogBusy, OutputError)
    with lock(root):
        pass
    with lock("memory://nowhere"):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission_says_so(tmp_path) -> None:
    root = tmp_path / "catalog"
    run(str(root), [A])
    root.chmod(0o500)
    try:
        with pytest.raises(OutputError, match=r"cannot write.*Permission denied; what was committed before is intact"):
            run(str(root), [B])
    finally:
        root.chmod(0o700)
    assert verify(str(root)) == []


@pytest.mark.parametrize("name", ["write", "move"])
def test_no_space_leaves_what_was_committed(tmp_path, monkeypatch, name) -> None:
    root = str(tmp_path)
    run(root, [A])
    before = {f.path for r in Ledger(root).runs() for f in r.files}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace" if name == "move" else "fsync", full)
        with pytest.raises(OutputError, match="No space left on device; what was committed before is intact"):
            run(root, [B])
    assert {f.path for r in Ledger(root).runs() for f in r.files} == before
    run(root, [B])
    assert verify(root) == []
    assert {r["source"] for _, r in Ledger(root).inputs(Ledger(root).runs())} == {"a", "b"}


def test_other_file_systems(tmp_path, undisturbed) -> None:
    root = "memory://commit-test/catalog"
    try:
        history(root)
        redo(root)
        assert verify(root) == []
        assert contents(root) == undisturbed
    finally:
        Store("memory://commit-test").remove_tree("catalog")
    history(f"file://{tmp_path}/catalog")
    assert verify(str(tmp_path / "catalog")) == []


def test_staged_files_know_where_they_go(tmp_path) -> None:
    staged = stage(str(tmp_path), "2026-11-24-0123456789ab", rows("a") + rows("u", ra=None))
    for one in staged:
        assert isinstance(one, StagedFile)
        assert (tmp_path / ".staging" / "2026-11-24-0123456789ab" / one.path).is_file()
    assert staging_folder(str(tmp_path) + "/", "x") == f"{tmp_path}/.staging/x"


def test_a_file_that_was_being_written_is_cleared_up(tmp_path) -> None:
    root = str(tmp_path)
    run(root, [A])
    before = contents(root)
    torn = tmp_path / "_runs" / ".2026-11-24-0123456789ab.json.4711.tmp"
    torn.write_text("{")
    Store(staging_folder(root, "2026-11-24-0123456789ab")).write("toy/part", b"")
    assert recover(root).removed == ("_runs/.2026-11-24-0123456789ab.json.4711.tmp",)
    assert contents(root) == before


def test_the_lock_is_one_file_for_all(tmp_path) -> None:
    with lock(str(tmp_path)):
        first = (tmp_path / ".lock").stat().st_ino
        with pytest.raises(CatalogBusy), lock(str(tmp_path)):
            pass
    with lock(str(tmp_path)):
        assert (tmp_path / ".lock").stat().st_ino == first
