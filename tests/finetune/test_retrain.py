"""The periodic job on toy stars: every branch, killed anywhere, run again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import pkgutil
import resource
import signal
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import finetune.dataset
import finetune.retrain
import finetune.trainer
from finetune import tasks
from finetune.bundle import load_bundle
from finetune.commands import run_train
from finetune.gate import Limits
from finetune.inputs import list_files
from finetune.registry import Registry
from finetune.retrain import Policy, RetrainError, run_retrain
from finetune.snapshot import Material, SnapshotError, check_snapshot, digest_of
from finetune.watch import Watch
from finetune.watched_trainer import last_state
from tests.finetune.conftest import put_toys
from tests.finetune.test_registry_commands import write_sky
from tests.finetune.toy_task import TASK
from transforms.store import Busy

LIMITS = Limits(objects=10, speed=0.01, ece=0.5)
POLICY = Policy(min_labels=50, limits=LIMITS, draws=50)
OPTIONS = {"steps": 40, "evaluations": 4}


@pytest.fixture(autouse=True)
def _toy_task(toys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    put_task(monkeypatch)


def put_task(monkeypatch: pytest.MonkeyPatch) -> None:
    task = dataclasses.replace(TASK, merit=("accuracy",))
    monkeypatch.setattr(tasks, "names", lambda: ("toy",))
    monkeypatch.setattr(tasks, "get", {"toy": task}.__getitem__)
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    torch.set_num_threads(1)


def material(folder: Path, files: int = 12, seed: int = 0, first: int = 0, **more: Any) -> Material:
    """Labelled toy stars, ten a file."""
    labels, inputs = write_sky(folder, files, seed, first=first)
    rows = []
    for line in Path(labels).read_text().splitlines()[1:]:
        name, kind = line.split(",")
        source, _, row = name.partition(":")
        rows.append({"source": source, "hdu": "", "row": int(row), "group": name, "origin": "", "class_name": kind})
    return Material(given=labels, rows=tuple(rows), files=tuple(list_files(inputs)), **{"options": OPTIONS, **more})


def retrain(given: Material, registry: Path, policy: Policy = POLICY, **more: Any) -> dict[str, Any]:
    return run_retrain("toy", given, str(registry), policy, **more)


def both(one: Material, two: Material) -> Material:
    return dataclasses.replace(one, rows=one.rows + two.rows, files=one.files + two.files)


def test_the_first_model_is_trained_judged_and_promoted(tmp_path: Path) -> None:
    report = retrain(material(tmp_path / "sky"), tmp_path / "models")
    assert report["outcome"] == "promoted"
    assert report["reasons"] == ["120 objects with new labels, 50 are enough"]
    held = Registry(str(tmp_path / "models"))
    assert held.state("toy").production == report["candidate"]
    assert report["gate"]["n"] == report["held_out"]["n"] == 30, "the first test part is frozen for what comes"
    folder = Path(report["path"])
    assert json.loads((folder / "report.json").read_text())["outcome"] == "promoted"
    page = (folder / "report.md").read_text()
    assert "# Retraining of toy: promoted" in page
    assert "| accuracy |" in page
    assert not (folder / "checkpoints").exists()
    known = json.loads((tmp_path / "models" / "toy" / "test.json").read_text())
    assert known["labels"] == str(folder / "frozen.csv")


def test_files_are_measured_once_and_nothing_of_it_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, seen = material(tmp_path / "sky"), Counter[str]()
    read = finetune.dataset.stream_records

    def counted(file: Any, *rest: Any) -> Any:
        seen[file.source] += 1
        return read(file, *rest)

    monkeypatch.setattr("finetune.dataset.stream_records", counted)
    report = retrain(given, tmp_path / "models")
    assert report["outcome"] == "promoted"
    assert seen == {file.source: 1 for file in given.files}
    assert not list(Path(report["path"]).glob(".*"))


def test_the_same_again_does_nothing(tmp_path: Path) -> None:
    given = material(tmp_path / "sky")
    retrain(given, tmp_path / "models")
    before = contents(tmp_path / "models")
    again = retrain(given, tmp_path / "models")
    assert again["outcome"] == "nothing to do"
    assert again["reasons"] == ["0 objects with new labels, 50 are enough", "no new drift alarm"]
    assert contents(tmp_path / "models") == before


def test_new_labels_retrain_from_production_and_never_touch_the_frozen_test(tmp_path: Path) -> None:
    old = material(tmp_path / "sky")
    first = retrain(old, tmp_path / "models")
    new = material(tmp_path / "more", seed=1, first=40)
    report = retrain(both(old, new), tmp_path / "models")
    assert report["outcome"] in ("promoted", "refused")
    assert report["reasons"] == ["120 objects with new labels, 50 are enough"]
    assert report["start"] == first["candidate"]
    candidate = load_bundle(Path(report["path"]) / "candidate")
    assert candidate.info.data["start"]["digest"][:16] == first["candidate"]
    frozen = groups(Path(first["path"]) / "frozen.csv")
    assert len(frozen) == 30
    assert frozen.isdisjoint(groups(Path(report["path"]) / "train.csv"))
    parts = json.loads((candidate.path / "split.json").read_text())["parts"]
    assert not {g for g in frozen if parts.get(g) in ("train", "validation")}
    assert report["gate"]["n"] == 30
    assert report["held_out"]["n"] > 0
    assert report["held_out"]["against"]["digest"][:16] == first["candidate"]


def groups(path: Path) -> set[str]:
    lines = [line.split(",") for line in path.read_text().splitlines()]
    return {line[lines[0].index("group")] for line in lines[1:]}


def test_the_reasons_are_labels_drift_or_age(tmp_path: Path) -> None:
    given = material(tmp_path / "sky")
    few = retrain(given, tmp_path / "models", dataclasses.replace(POLICY, min_labels=500))
    assert few["outcome"] == "nothing to do"
    assert few["reasons"][0] == "120 objects with new labels, 500 are enough"
    assert not (tmp_path / "models" / "toy" / "snapshots").exists()
    alarmed = dataclasses.replace(given, alarms=("value teff since 2026-11-11",))
    policy = dataclasses.replace(POLICY, min_labels=500)
    dry = retrain(alarmed, tmp_path / "models", policy, dry_run=True)
    assert dry["outcome"] == "would retrain"
    assert dry["reasons"] == ["1 drift alarms: value teff since 2026-11-11"]
    assert not (tmp_path / "models" / "toy" / "snapshots").exists()

    assert retrain(alarmed, tmp_path / "models", policy)["outcome"] == "promoted"
    again = dataclasses.replace(alarmed, options={**OPTIONS, "seed": 1})
    assert retrain(again, tmp_path / "models", policy)["outcome"] == "nothing to do", "the alarm was acted on"
    later = dataclasses.replace(again, alarms=("value teff since 2026-12-01",))
    assert retrain(later, tmp_path / "models", policy, dry_run=True)["outcome"] == "would retrain"
    old = dataclasses.replace(policy, max_age=30)
    month = lambda: datetime.now(UTC) + timedelta(days=31)  # noqa: E731
    assert retrain(again, tmp_path / "models", old, dry_run=True)["outcome"] == "nothing to do"
    aged = retrain(again, tmp_path / "models", old, dry_run=True, now=month)
    assert aged["outcome"] == "would retrain"
    assert aged["reasons"] == ["in production for 31.0 days, 30 are allowed"]


def test_a_worse_model_is_refused_and_production_stays(tmp_path: Path) -> None:
    old = material(tmp_path / "sky")
    first = retrain(old, tmp_path / "models")
    new = material(tmp_path / "more", seed=1, first=40)
    wrong = {"bright": "faint", "faint": "bright"}
    new = dataclasses.replace(new, rows=tuple({**r, "class_name": wrong[r["class_name"]]} for r in new.rows))
    report = retrain(dataclasses.replace(new, options={**OPTIONS, "steps": 120}), tmp_path / "models")
    assert report["outcome"] == "refused"
    assert report["gate"]["refused"]
    assert Registry(str(tmp_path / "models")).state("toy").production == first["candidate"]
    assert "refused:" in (Path(report["path"]) / "report.md").read_text()
    again = retrain(dataclasses.replace(new, options={**OPTIONS, "steps": 120}), tmp_path / "models")
    assert again["outcome"] == "nothing to do"
    assert again["reasons"] == ["the same data was decided on before: refused"]


def test_what_cannot_be_learnt_is_reported_once(tmp_path: Path) -> None:
    given = material(tmp_path / "sky", options={"steps": 40, "method": "layers:99"})
    report = retrain(given, tmp_path / "models")
    assert report["outcome"] == "failed"
    assert "layers" in report["error"]
    assert "It failed, and production stays" in (Path(report["path"]) / "report.md").read_text()
    assert retrain(given, tmp_path / "models")["reasons"] == ["the same data was decided on before: failed"]
    good = dataclasses.replace(given, options=OPTIONS)
    assert retrain(good, tmp_path / "models")["outcome"] == "promoted", "labels of a failure are new still"


def contents(folder: Path) -> dict[str, str]:
    """Every file by digest, but what tells the time or the process."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("retrain.json", "retrain.lock", ".lock", "state.json")
        and "gates" not in path.parts and path.name not in ("report.json", "report.md")
    }  # fmt: skip


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dataclasses.dataclass(frozen=True)
class Kill:
    """Kill the process at the n-th call of a function: before it, or once it has returned."""

    target: str  #: Module, or module:class.
    name: str
    call: int
    after: bool = False

    def __call__(self) -> None:
        target = pkgutil.resolve_name(self.target)
        real, count = getattr(target, self.name), [0]

        def deadly(*args: Any, **options: Any) -> Any:
            count[0] += 1
            if count[0] == self.call and not self.after:
                die()
            value = real(*args, **options)
            if count[0] == self.call:
                die()
            return value

        setattr(target, self.name, deadly)


#: A fork of this process would have the state of whatever tests ran before, threads of autograd among it.
CLEAN = multiprocessing.get_context("forkserver")


def _child(arm: Callable[[], None], given: Material, registry: Path) -> None:
    monkeypatch = pytest.MonkeyPatch()
    put_toys(monkeypatch)
    put_task(monkeypatch)
    arm()
    retrain(given, registry)


def apart(arm: Callable[[], None], given: Material, registry: Path) -> int | None:
    """Exit code of a process of its own that retrains."""
    CLEAN.set_forkserver_preload([__name__])
    process = CLEAN.Process(target=_child, args=(arm, given, registry))
    process.start()
    process.join(300)
    return process.exitcode


KILLS = {
    "snapshot": Kill("finetune.retrain", "write_snapshot", 1, after=True),
    "half-a-snapshot": Kill("finetune.snapshot", "write_json", 2),
    "plan": Kill("finetune.retrain", "make_split", 1),
    "training": Kill("finetune.watch:Watch", "save", 3),
    "after-training": Kill("finetune.retrain", "_train", 1, after=True),
    "promotion": Kill("finetune.registry:Registry", "promote", 1),
    "between-gate-and-state": Kill("finetune.registry:Registry", "_write", 2),
    "after-promotion": Kill("finetune.registry:Registry", "promote", 1, after=True),
    "report": Kill("finetune.retrain", "readable", 1),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {"folder": tmp_path_factory.mktemp("retrain")}


@pytest.mark.slow
@pytest.mark.parametrize("where", KILLS)
def test_killed_anywhere_it_goes_on_and_ends_the_same(undisturbed: dict[str, Any], where: str) -> None:
    folder = undisturbed["folder"]
    if "given" not in undisturbed:
        undisturbed["given"] = material(folder / "sky")
        undisturbed["report"] = retrain(undisturbed["given"], folder / "models")
        undisturbed["files"] = contents(folder / "models")
        (folder / "models").rename(folder / "done")
    assert apart(KILLS[where], undisturbed["given"], folder / "models") == -signal.SIGKILL
    state = Registry(str(folder / "models")).state("toy")
    assert state.production in ("", undisturbed["report"]["candidate"]), "the old or the new, never a part"
    report = retrain(undisturbed["given"], folder / "models")
    after = contents(folder / "models")
    held = Registry(str(folder / "models")).state("toy")
    (folder / "models").rename(folder / where)
    assert report["outcome"] == undisturbed["report"]["outcome"] == "promoted"
    assert after == undisturbed["files"]
    assert held.production == undisturbed["report"]["candidate"]
    assert [event["what"] for event in held.events] == ["added", "promoted"]
    assert report["held_out"] == undisturbed["report"]["held_out"]


def test_killed_during_training_it_goes_on_from_the_last_checkpoint(tmp_path: Path) -> None:
    given = material(tmp_path / "sky")
    assert apart(Kill("finetune.watch:Watch", "save", 2, after=True), given, tmp_path / "models") == -signal.SIGKILL
    (folder,) = (tmp_path / "models" / "toy" / "snapshots").iterdir()
    assert list(folder.glob("checkpoints/member_0/checkpoint-20"))
    said: list[str] = []
    other = material(tmp_path / "other", seed=5, first=80)
    report = retrain(other, tmp_path / "models", say=said.append)
    assert said[0] == f"going on with snapshot {folder.name}", "what was begun is ended first"
    assert report["outcome"] == "promoted"
    history = load_bundle(folder / "candidate").info.training["history"][0]
    assert [entry["step"] for entry in history] == [10, 20, 30, 40]


def test_a_torn_checkpoint_is_dropped(tmp_path: Path) -> None:
    whole, torn = (tmp_path / "member_0" / f"checkpoint-{step}" for step in (10, 20))
    for folder in (whole, torn):
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_text("{}")
        (folder / "optimizer.pt").write_bytes(b"x")
        save_file({"a": torch.zeros(3)}, folder / "model.safetensors")
        Watch.start(0.0).save(folder)
    (torn / "model.safetensors").write_bytes((torn / "model.safetensors").read_bytes()[:20])
    assert last_state(tmp_path / "member_0") == whole
    assert [path.name for path in sorted((tmp_path / "member_0").iterdir())] == ["checkpoint-10"]


def no_more_than_4_kb() -> None:
    """A disk that is full: no file of this process may grow beyond that once it trains."""
    real = finetune.trainer.SurveyTrainer.fit

    def full(self: Any) -> Any:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        return real(self)

    finetune.trainer.SurveyTrainer.fit = full


def _full(queue: Any, given: Material, registry: Path) -> None:
    try:
        _child(no_more_than_4_kb, given, registry)
        queue.put("done")
    except (RetrainError, OSError) as error:
        queue.put(f"{type(error).__name__}: {error}")


def test_a_full_disk_at_a_checkpoint_is_said_and_gone_on_from(tmp_path: Path) -> None:
    given = material(tmp_path / "sky")
    queue = CLEAN.Queue()
    process = CLEAN.Process(target=_full, args=(queue, given, tmp_path / "models"))
    process.start()
    said = queue.get(timeout=300)
    process.join()
    assert "stopped" in said or "File too large" in said
    assert Registry(str(tmp_path / "models")).state("toy").production == ""
    assert retrain(given, tmp_path / "models")["outcome"] == "promoted"


def test_a_second_one_says_who_holds_it(tmp_path: Path) -> None:
    given = material(tmp_path / "sky")
    with (
        finetune.retrain._alone(Registry(str(tmp_path / "models")).store, "toy", str(tmp_path / "models")),
        pytest.raises(Busy, match=f"'toy' is being retrained by process {os.getpid()} on .*, since 20.*; wait for it"),
    ):
        retrain(given, tmp_path / "models")


@pytest.mark.parametrize("name", ["labels.csv", "files.json", "given/labels.csv"])
def test_a_snapshot_that_was_changed_is_not_trained_on(tmp_path: Path, name: str) -> None:
    given = material(tmp_path / "sky")
    assert apart(KILLS["snapshot"], given, tmp_path / "models") == -signal.SIGKILL
    (folder,) = (tmp_path / "models" / "toy" / "snapshots").iterdir()
    (folder / name).write_text((folder / name).read_text() + " ")
    with pytest.raises(SnapshotError, match=f"is damaged: {name} is not what was written"):
        retrain(given, tmp_path / "models")
    (folder / name).unlink()
    with pytest.raises(SnapshotError, match=f"is damaged: {Path(name).name} is gone"):
        check_snapshot(folder)
    assert Registry(str(tmp_path / "models")).state("toy").production == ""


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_text("TOY\n1\n")])
def test_files_that_changed_since_close_the_snapshot(tmp_path: Path, change: Callable[[Path], Any]) -> None:
    given = material(tmp_path / "sky")
    assert apart(KILLS["snapshot"], given, tmp_path / "models") == -signal.SIGKILL
    change(tmp_path / "sky" / "night" / "f3.txt")
    report = retrain(given, tmp_path / "models")
    assert report["outcome"] == "failed"
    assert "files of the snapshot are not what they were" in report["error"]
    assert "f3.txt" in report["error"]


def test_another_model_that_came_meanwhile_ends_a_snapshot(tmp_path: Path) -> None:
    given = material(tmp_path / "sky")
    assert apart(KILLS["snapshot"], given, tmp_path / "models") == -signal.SIGKILL
    (folder,) = (tmp_path / "models" / "toy" / "snapshots").iterdir()
    labels, inputs = write_sky(tmp_path / "hand", 6, 3, first=200)
    run_train("toy", labels, inputs, tmp_path / "byhand", options=OPTIONS, draws=20)
    held = Registry(str(tmp_path / "models"))
    held.add(load_bundle(tmp_path / "byhand"))
    held.promote("toy", load_bundle(tmp_path / "byhand").digest, {})
    report = retrain(given, tmp_path / "models")
    assert json.loads((folder / "report.json").read_text())["outcome"] == "abandoned"
    assert report["snapshot"] != folder.name
    assert report["outcome"] in ("promoted", "refused")


def test_the_snapshot_is_named_by_its_data(tmp_path: Path) -> None:
    given = material(tmp_path / "sky", files=2)
    one = digest_of(given, "toy", 1, "")
    shuffled = dataclasses.replace(given, rows=given.rows[::-1], files=given.files[::-1])
    assert digest_of(shuffled, "toy", 1, "") == one
    assert digest_of(given, "toy", 1, "abc") != one
    assert digest_of(dataclasses.replace(given, options={}), "toy", 1, "") != one
    assert digest_of(dataclasses.replace(given, rows=given.rows[1:]), "toy", 1, "") != one
    assert digest_of(dataclasses.replace(given, alarms=("a",)), "toy", 1, "") == one


def test_a_registry_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RetrainError, match="needs a folder on a disk of this machine"):
        run_retrain("toy", material(tmp_path / "sky", files=1), "memory://models", POLICY)


def test_no_labels_are_nothing_to_do(tmp_path: Path) -> None:
    given = dataclasses.replace(material(tmp_path / "sky", files=1), rows=(), files=())
    assert retrain(given, tmp_path / "models")["reasons"] == ["no label matches a row of the catalog"]
