"""A night that came in parts becomes one run, with the bytes of a night that came at once."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cli import main
from pipeline.compact import compact
from pipeline.hats import CatalogError
from pipeline.ledger import Ledger
from pipeline.verify import verify
from tests import toy_night
from tests.pipeline.test_plan import BAD, EMPTY, GONE, PLACES, content, look, run


@pytest.mark.usefixtures("toys")
def test_parts_of_a_night_give_the_bytes_of_the_whole(tmp_path: Path, capsys: Any) -> None:
    night = toy_night.write_night(tmp_path / "night")
    shutil.copy(night / "f0.txt", night / "copy of f0.txt")
    toy_night.run(night, output=tmp_path / "whole")
    names = sorted(path.name for path in night.iterdir())
    some = tmp_path / "arriving" / "night"
    some.mkdir(parents=True)
    for start in range(0, len(names), 3):
        for name in names[start : start + 3]:
            shutil.copy(night / name, some / name)
        toy_night.run(some, output=tmp_path / "parts")
    (one,) = compact(str(tmp_path / "parts"))
    assert (one.runs, one.night) == (4, "2026-11-24")
    assert one.after < one.before
    assert verify(str(tmp_path / "parts")) == []
    parts, whole = toy_night.digests(tmp_path / "parts"), toy_night.digests(tmp_path / "whole")
    tables = {path: digest for path, digest in parts.items() if not path.startswith(("_runs", "rejects"))}
    assert tables == {path: digest for path, digest in whole.items() if not path.startswith(("_runs", "rejects"))}
    assert compact(str(tmp_path / "parts")) == [], "nothing is left to merge"
    assert main(["compact", str(tmp_path / "parts"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"compacted": 0}
    (again,) = toy_night.run(some, output=tmp_path / "parts")
    assert again.run_id == "", "its files are known"
    (run,) = Ledger(str(tmp_path / "parts")).runs()
    assert run.manifest["merged"]["stages"]["ingest"]["entered"] == 10


steps = st.lists(
    st.tuples(
        st.fixed_dictionaries({url: st.sampled_from(("x", "y", *BAD, EMPTY, GONE)) for url in PLACES}),
        st.sets(st.sampled_from(PLACES), min_size=1),
        st.sets(st.sampled_from(("toy", "other")), min_size=1),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(steps)
def test_no_row_and_no_reject_is_lost_or_comes_twice(taken: Any) -> None:
    with tempfile.TemporaryDirectory() as root:
        for sky, seen, tasks in taken:
            run(root, look({url: sky[url] for url in seen}), dict.fromkeys(sorted(tasks), "v1"))
        before = content(root)
        compact(root)
        assert content(root) == before
        assert verify(root) == []
        assert len(Ledger(root).runs()) == 1
        sky, seen, tasks = taken[-1]
        work = Ledger(root).plan(look({url: sky[url] for url in seen}), "2026-11-24", dict.fromkeys(tasks, "v1"))
        assert work.inputs.files == (), "what was done is known after it, too"


def test_a_night_of_two_versions_is_left_alone(tmp_path: Path, capsys: Any) -> None:
    root = str(tmp_path)
    run(root, look({"/in/a": "x"}), {"toy": "v1"})
    run(root, look({"/in/b": "y"}), {"toy": "v2"})
    before = content(root)
    with pytest.raises(CatalogError, match="the rows of toy were made by 2 versions"):
        compact(root)
    assert main(["compact", root]) == 2
    assert "run the night again" in capsys.readouterr().err
    assert content(root) == before
    with pytest.raises(CatalogError, match="no run of night 2020-01-01"):
        compact(root, "2020-01-01")
