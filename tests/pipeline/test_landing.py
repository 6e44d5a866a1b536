"""Answers of a stream until they are committed: the fullest counts, and what is missing is found."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from finetune.bundle import bundled
from pipeline.hats import CatalogError
from pipeline.landing import SOURCE, TOO_LATE, NotComplete, claim, commit_night, nights, plan_of, write
from pipeline.ledger import Ledger
from pipeline.models import resolve_models
from pipeline.options import RunConfig
from pipeline.verify import verify
from tests.pipeline.alerts import NEXT, NIGHT, ztf
from transforms.attempt import Tallies
from transforms.merge import merge_light_curves
from transforms.objects import answer, expand
from transforms.readers.alert_messages import Message, decode
from transforms.readers.alert_packets import load_packet
from transforms.readers.format import Entry
from transforms.records import FileRef, Item, Reject

DURING = datetime.fromisoformat(f"{NIGHT}T23:00:00").replace(tzinfo=UTC).timestamp()
CONFIG = RunConfig(output="x", tasks=("variable_star",))


@pytest.fixture(scope="module")
def models() -> Any:
    assert bundled("variable_star")
    return resolve_models(("variable_star",), {}, "cpu", "fp32", 1)


@pytest.fixture(scope="module")
def star(models: Any) -> Any:
    """Make the row of an object that has sent so many alerts, and their places."""
    predictor = models[0].loader()

    def made(number: int, alerts: int, night: str = NIGHT) -> Any:
        places = tuple(f"alerts/0/{100 * number + i}" for i in range(alerts))
        curve = load_packet(*decode(Message("alerts", 0, 100 * number, 0, ztf(number)), {}), SOURCE, 100 * number)
        entry = Entry(0, lambda: merge_light_curves([curve] * alerts))
        item = Item(file=FileRef(url=SOURCE, source=SOURCE), format="")
        (row,) = answer(list(expand(item, [predictor], Tallies(), {}, {}, [entry])), predictor, Tallies())
        return {**row, "night": night, "package_version": "0"}, places

    return made


@pytest.fixture
def landing(tmp_path: Path, models: Any) -> str:
    claim(str(tmp_path / "landing"), plan_of(CONFIG, models, 12.0, 3600.0))
    return str(tmp_path / "landing")


def arrive(landing: str, *places: str) -> None:
    write(landing, NIGHT, [(None, (place,)) for place in places], "0")


def rows_of(catalog: str) -> list[dict[str, Any]]:
    ledger = Ledger(catalog)
    return [row for run in ledger.runs() for f in run.files if f.kind == "primary" for row in ledger._rows(f.path)]


def test_the_answer_with_most_alerts_counts_and_is_there_once(landing: str, star: Any, tmp_path: Path) -> None:
    catalog = str(tmp_path / "catalog")
    first, whole, other = star(1, 1), star(1, 3), star(2, 2)
    arrive(landing, *whole[1], *other[1])
    arrive(landing, *whole[1])  # the engine has done a bundle again
    for one in (first, whole, first, other, other):
        write(landing, NIGHT, [one], "0")
    assert nights(landing) == [NIGHT]
    told = commit_night(catalog, landing, NIGHT, clock=lambda: DURING)
    assert (told["alerts"], told["rows"], told["rejects"]) == (5, 2, 0)
    assert sorted(row["object_id"] for row in rows_of(catalog)) == ["ZTF1", "ZTF2"]
    assert verify(catalog) == []
    assert commit_night(catalog, landing, NIGHT)["run_id"] == "", "nothing is new"


def test_an_alert_without_an_answer_stops_the_commit(landing: str, star: Any, tmp_path: Path) -> None:
    catalog = str(tmp_path / "catalog")
    row = star(1, 2)
    arrive(landing, *row[1], "alerts/0/999")
    write(landing, NIGHT, [row], "0")
    with pytest.raises(NotComplete, match=r"1 alerts have come in and are behind no row .* alerts/0/999"):
        commit_night(catalog, landing, NIGHT, clock=lambda: DURING)
    assert not Path(catalog).exists() or not Ledger(catalog).runs()
    long_after = DURING + 14 * 3600 + 3600 + 3600
    told = commit_night(catalog, landing, NIGHT, clock=lambda: long_after)
    assert (told["rows"], told["rejects"]) == (1, 1)
    (reject,) = Ledger(catalog).rejects()
    assert (reject["error"], reject["hdu"], reject["row"]) == (TOO_LATE, "alerts/0", 999)
    assert verify(catalog) == []


def test_an_answer_without_an_alert_stops_the_commit(landing: str, star: Any, tmp_path: Path) -> None:
    row = star(1, 2)
    arrive(landing, row[1][0])
    write(landing, NIGHT, [row], "0")
    with pytest.raises(NotComplete, match="come out but not in"):
        commit_night(str(tmp_path / "catalog"), landing, NIGHT, clock=lambda: DURING)


def test_late_alerts_make_a_night_anew_and_leave_others_alone(landing: str, star: Any, tmp_path: Path) -> None:
    catalog = str(tmp_path / "catalog")
    one, two = star(1, 1), star(1, 2)
    tomorrow = star(3, 1, NEXT)
    write(landing, NEXT, [(None, tomorrow[1]), tomorrow], "0")
    arrive(landing, *one[1])
    write(landing, NIGHT, [one], "0")
    for night in nights(landing):
        commit_night(catalog, landing, night, clock=lambda: DURING)
    arrive(landing, *two[1])
    reject = Reject(source=SOURCE, hdu="alerts/1", row=5, stage="read", error="Unreadable", reason="poison")
    write(landing, NIGHT, [two, (None, ("alerts/1/5",)), (reject, ("alerts/1/5",))], "0")
    told = commit_night(catalog, landing, NIGHT, clock=lambda: DURING)
    assert (told["rows"], told["rejects"]) == (1, 1)
    assert sorted((row["night"], row["object_id"]) for row in rows_of(catalog)) == [(NIGHT, "ZTF1"), (NEXT, "ZTF3")]
    assert [row["reason"] for row in Ledger(catalog).rejects()] == ["poison"]
    assert verify(catalog) == []


def test_a_folder_is_of_one_stream(landing: str, models: Any, tmp_path: Path) -> None:
    claim(landing, plan_of(CONFIG, models, 12.0, 3600.0))
    other = plan_of(CONFIG, models, 12.0, 3600.0) | {"versions": {"variable_star": "another"}}
    with pytest.raises(CatalogError, match="of other models"):
        claim(landing, other)
    with pytest.raises(CatalogError, match="no landing place"):
        commit_night(str(tmp_path / "c"), str(tmp_path / "elsewhere"), NIGHT)
