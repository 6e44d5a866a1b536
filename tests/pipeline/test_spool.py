"""Which messages a catalog holds: whatever is cut off, and whenever, each is there exactly once."""

from __future__ import annotations

from pathlib import Path

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.spool import Coverage, Partition, Range, Spool
from tests.pipeline.alerts import lsst
from transforms.readers.alert_messages import Message
from transforms.records import Reject

HERE = "cluster"
NIGHTS = ("2026-11-24", "2026-11-25", "2026-11-26")


def message(partition: int, offset: int, value: bytes = b"x") -> Message:
    return Message("alerts", partition, offset, 0, value)


@pytest.mark.parametrize("closing", [True, False])
def test_a_name_can_be_read_again(closing: bool) -> None:
    one = Range("5ixtb231QLu133TRIqxAzA", Partition("ztf.alerts_1", 12), 7, 10**13, closing)
    assert Range.of(one.name) == one
    assert Range.of("spectra/spec-0001.fits") is None


def test_offsets_of_another_cluster_mean_nothing() -> None:
    covered = Coverage(HERE)
    covered.add("2026-11-24", Range("elsewhere", Partition("alerts", 0), 0, 99).name)
    assert covered.next(Partition("alerts", 0)) is None


@settings(max_examples=300, deadline=None)
@given(
    nights=st.lists(st.lists(st.sampled_from(NIGHTS), max_size=30), min_size=1, max_size=3),
    steps=st.lists(st.tuples(st.integers(1, 12), st.integers(0, 4)), min_size=1, max_size=60),
)  # fmt: skip
def test_every_message_is_committed_once_whatever_is_cut_off(
    nights: list[list[str]], steps: list[tuple[int, int]]
) -> None:
    """A reader of several partitions, killed after any number of the runs of a batch, begins again from the names."""
    log = {p: [(night, message(p, 3 * i)) for i, night in enumerate(own)] for p, own in enumerate(nights)}
    ledger: list[tuple[str, str]] = []
    committed: list[tuple[str, Message]] = []
    spool = Spool("memory://spool-of-a-test")

    def restarted() -> Coverage:
        covered = Coverage(HERE)
        for night, name in ledger:
            covered.add(night, name)
        return covered

    for count, runs in [*steps, *[(12, 99)] * 40]:
        covered = restarted()
        batch = []
        for p, own in log.items():
            start = covered.next(Partition("alerts", p)) or 0
            batch += [pair for pair in own if pair[1].offset >= start][:count]
        fresh = [(night, one) for night, one in batch if not covered.holds(night, one)]
        for one in spool.put(HERE, fresh, {})[:runs]:
            ledger += [(one.night, file.source) for file in one.inputs.files]
            committed += [(one.night, each) for each in one.messages]
    assert sorted(committed) == sorted(pair for own in log.values() for pair in own)


def test_a_file_holds_the_schemas_that_its_messages_name(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path))
    pairs = [("2026-11-24", message(0, 0, lsst(1, 7, True))), ("2026-11-24", message(1, 0, lsst(1, 8, True)))]
    (batch,) = spool.put(HERE, pairs, {7: "{}", 8: "[]", 9: "null"})
    found = []
    for file in batch.inputs.files:
        with open(file.url, "rb") as stream:
            found.append({k: v for k, v in fastavro.reader(stream).metadata.items() if k.startswith("nightcat")})
    assert found == [{"nightcat.schema.7": "{}"}, {"nightcat.schema.8": "[]"}]


def test_only_what_was_not_committed_is_cleared(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path))
    first, second = (spool.put(HERE, [("2026-11-24", message(0, offset))], {})[0] for offset in (0, 1))
    (other,) = spool.put("elsewhere", [("2026-11-24", message(0, 5))], {})
    (tmp_path / "notes.txt").write_text("mine")
    done = {("2026-11-24", first.inputs.files[0].source)}
    assert spool.clear(HERE, done) == [f"2026-11-24/{second.inputs.files[0].source}"]
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"notes.txt", "000000000000-000000000000.avro", "000000000005-000000000005.avro"}
    spool.drop(other, [other.inputs.files[0].source])
    assert "000000000005-000000000005.avro" not in {path.name for path in tmp_path.rglob("*")}


def test_a_folder_of_messages_belongs_to_one_catalog(tmp_path: Path) -> None:
    assert Spool(str(tmp_path)).claim("catalog") is None
    assert Spool(str(tmp_path)).claim("catalog") is None
    assert Spool(str(tmp_path)).claim("another") == "catalog"


def test_a_night_of_nothing_but_lost_messages_is_a_batch() -> None:
    reject = Reject(source="x", stage="ingest", error="MessagesGone", reason="gone")
    (batch,) = Spool("memory://spool-of-a-test").put(HERE, [], {}, [("2026-11-24", reject)])
    assert batch == ("2026-11-24", batch.inputs, ())
    assert batch.inputs.rejects == (reject,)
