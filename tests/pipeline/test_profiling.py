"""Stages of a process: what is charged to them, against sleeps whose length is known, and what is put back after."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import io
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import pipeline.nights
from finetune.network import Network
from pipeline.options import RunConfig
from pipeline.profile_points import (
    ATTEMPTS,
    FORWARD,
    POINTS,
    READING,
    STAGES,
    WAIT_FILES,
    WAIT_MODEL,
    WAIT_READER,
    Point,
    timed,
    timed_imports,
    timed_many,
    timed_open,
    timed_points,
)
from pipeline.profile_report import MAIN, READER, Line, Profile, advice, kind_of, remarks, summarise
from pipeline.profiling import OTHER, Batches, Recorder
from pipeline.sampling import Sampler
from tests import toy, toy_night
from transforms.attempt import STAGES as COUNTED
from transforms.locations import open_url

NAP = 0.3


class Ticks:
    """A clock that the test moves: seconds of the day, of the processor, and bytes."""

    def __init__(self) -> None:
        self.now = (0.0, 0.0, 0)

    def __call__(self) -> tuple[float, float, int]:
        return self.now

    def go(self, wall: float, cpu: float = 0.0, disk: int = 0) -> None:
        self.now = (self.now[0] + wall, self.now[1] + cpu, self.now[2] + disk)


def test_a_stage_is_not_charged_for_the_stages_within() -> None:
    clock = Ticks()
    recorder = Recorder(clock)
    clock.go(100)  # before anything is measured
    with recorder.stage("outer"):
        clock.go(1, 0.5)
        with recorder.stage("inner"):
            clock.go(2, 0.25, 4096)
            with recorder.stage("outer"):
                clock.go(4)
        clock.go(8)
    clock.go(100)
    (times,) = recorder.threads
    assert {name: (s.wall, s.cpu, s.disk, s.calls) for name, s in times.stages.items()} == {
        "outer": (13, 0.5, 0, 2),
        "inner": (2, 0.25, 4096, 1),
    }
    assert times.stage == ""


def test_a_stage_that_fails_has_ended() -> None:
    recorder = Recorder(clock := Ticks())

    def fails() -> None:
        clock.go(3)
        raise KeyError("x")

    with pytest.raises(KeyError):
        timed(recorder, "bad", fails)()
    clock.go(5)
    assert recorder.mine()["bad"].wall == 3
    assert recorder.mine().open == []


def test_who_takes_the_outputs_of_a_generator_pays_for_itself() -> None:
    recorder = Recorder(clock := Ticks())

    def outputs(n: int) -> Iterator[int]:
        for i in range(n):
            clock.go(1)
            yield i
        clock.go(1)

    with recorder.stage("taker"):
        for _ in timed_many(recorder, "maker", outputs)(3):
            clock.go(10)
    assert recorder.mine()["maker"].wall == 4
    assert recorder.mine()["maker"].calls == 1
    assert recorder.mine()["taker"].wall == 30


def test_threads_are_apart_and_each_sums_to_its_own_time() -> None:
    recorder = Recorder()
    outer: dict[str, float] = {}

    def work(stages: Sequence[str]) -> None:
        began = time.perf_counter()
        with recorder.stage(OTHER):
            inside = time.perf_counter()
            for stage in stages:
                with recorder.stage(stage):
                    time.sleep(0.02)
            least = time.perf_counter() - inside
        most = time.perf_counter() - began
        wall = sum(spent.wall for spent in recorder.mine().stages.values())
        assert least <= wall <= most
        outer[threading.current_thread().name] = wall

    threads = [threading.Thread(target=work, args=(names,), name="".join(names)) for names in ("ab", "bc")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(outer) == {"ab", "bc"}, "an assertion failed in a thread"
    assert [sorted(times.stages) for times in sorted(recorder.threads, key=lambda t: t.name)] == [
        ["a", "b", "other"],
        ["b", "c", "other"],
    ]


class SleepyModule(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        if bool((x == 100).any()):
            time.sleep(NAP)
        return {"y": 2 * x}


class SleepyPredictor(toy.ToyPredictor):
    """The toy model as a real network, which sleeps once in it, once in what surrounds it."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network([SleepyModule()], torch.device("cpu"))

    def predict(self, batch: Sequence[Mapping[str, Any]], size: int | None = None) -> list[dict[str, Any]]:
        rows = super().predict(batch, size)
        outputs = self.network(batch, size or self.batch_size)
        if any(p["x"][0] == 120 for p in batch):
            time.sleep(NAP)
        return [{**row, "toy_answer": float(y[0])} for row, y in zip(rows, outputs["y"], strict=True)]

    def prepare(self, record: Any) -> Any:
        if record.flux[0] == 160:
            time.sleep(NAP)
        return super().prepare(record)


def sleepy(func: Callable[..., Any], when: Callable[..., bool]) -> Callable[..., Any]:
    @functools.wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        if when(*args):
            time.sleep(NAP)
        return func(*args, **kwargs)

    return call


def run(night: Path, output: Path) -> list[Any]:
    config = RunConfig(inputs=(str(night),), output=str(output), night="2026-11-24", tasks=("toy",), workers=1)
    model = dataclasses.replace(toy_night.MODELS[0], loader=SleepyPredictor)
    return pipeline.nights.run_nights(config, (model,))


@pytest.mark.usefixtures("toys")
def test_every_sleep_is_found_in_its_stage_and_the_catalog_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sleep in each of eight stages of a whole night, on two threads."""
    import pipeline.commit
    import pipeline.sinks

    monkeypatch.setattr(toy, "_load", sleepy(toy._load, lambda source, row, line: line == "140"))
    monkeypatch.setattr(toy, "measure_light_curve", sleepy(toy.measure_light_curve, lambda r, _: r.flux[0] == 180))
    monkeypatch.setattr(pipeline.sinks, "assemble", sleepy(pipeline.sinks.assemble, lambda *a: a[2][0] == "rejects"))
    monkeypatch.setattr(pipeline.commit, "commit", sleepy(pipeline.commit.commit, lambda *a: True))
    monkeypatch.setattr(pipeline.nights, "fingerprint", sleepy(pipeline.nights.fingerprint, lambda *a: True))
    night = toy_night.write_night(tmp_path / "night")
    (plain,) = run(night, tmp_path / "plain")

    recorder, cpu = Recorder(), time.process_time()
    with Sampler(recorder, 200) as sampler, timed_points(recorder):
        began = time.perf_counter()
        with recorder.stage(OTHER):
            inside = time.perf_counter()
            (measured,) = run(night, tmp_path / "measured")
            least = time.perf_counter() - inside
        most = time.perf_counter() - began
    found = summarise(recorder, sampler, time.process_time() - cpu)

    assert measured.rows == plain.rows == {"toy": 121}
    assert toy_night.digests(tmp_path / "plain") == toy_night.digests(tmp_path / "measured")
    lines = {(line.thread, line.stage): line for line in found.lines}
    slept = [(MAIN, s) for s in ("digests", FORWARD, "answers", "writing files", "commit")]
    slept += [(READER, s) for s in ("decoding", "measuring", "preparing")]
    for key in slept:
        assert lines[key].seconds >= NAP - 0.001, key
        assert lines[key].cpu <= lines[key].seconds - NAP + 0.001, key
    assert {(READER, WAIT_MODEL), (READER, WAIT_FILES)} <= set(lines)
    assert lines[MAIN, WAIT_READER].seconds >= NAP, "while the reader slept, the model could not but wait"
    assert found.spent("decoding", MAIN) == 0
    assert least <= found.seconds <= most
    assert found.of(MAIN) == pytest.approx(found.seconds)
    assert lines[READER, "decoding"].calls == 44 + 125, "items opened and objects read"
    assert lines[MAIN, "commit"].calls == 1
    batches = found.batches["toy"]
    assert (batches.objects, batches.size) == (122, 4), "with the one that the model refused"
    assert 31 <= batches.batches <= 122
    assert 0 <= found.depth <= 64
    assert found.peak > 1e7
    assert json.loads(json.dumps(found.plain()))["lines"][0]["thread"] == MAIN


def test_all_functions_are_put_back_even_after_an_error() -> None:
    def looked_up() -> list[Any]:
        found = []
        for module, name in [(p.module, p.name) for p in POINTS] + [
            ("transforms.objects", "attempt"),
            ("transforms.readers.format", "open_url"),
        ]:
            owner: Any = importlib.import_module(module)
            for part in name.split("."):
                owner = getattr(owner, part)
            found.append(owner)
        return found

    before, importing = looked_up(), __import__

    def breaks() -> None:
        with timed_points(Recorder()), timed_imports(Recorder()):
            assert not any(a is b for a, b in zip(before, looked_up(), strict=True)), "each is timed"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        breaks()
    assert all(a is b for a, b in zip(before, looked_up(), strict=True))
    assert importing is __import__


def test_a_function_that_is_gone_is_an_error() -> None:
    wrong = Point("pipeline.nights", "find_no_files", "listing")
    with pytest.raises(AttributeError, match="find_no_files"), timed_points(Recorder(), [POINTS[2], wrong]):
        pass
    assert pipeline.nights.find_files.__module__ == "pipeline.sources"
    assert not hasattr(pipeline.nights.find_files, "__wrapped__")


def test_every_stage_that_is_timed_is_explained() -> None:
    assert {point.stage for point in POINTS} | set(ATTEMPTS.values()) | {"imports", READING} == set(STAGES)
    assert set(ATTEMPTS) | {"ingest", "infer"} == set(COUNTED)


def test_bytes_are_read_as_they_are_and_timed(tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096
    (tmp_path / "x").write_bytes(data)
    for url in (str(tmp_path / "x"), f"local://{tmp_path}/x"):  # the second by fsspec, as a remote one
        recorder = Recorder(clock := Ticks())
        opened = timed_open(recorder, sleepless(open_url, clock))
        with opened(url) as stream:
            stream.seek(256)
            assert stream.read(10) == data[256:266]
            assert stream.read() == data[266:]
        assert recorder.mine()[READING].calls == 3
        assert recorder.mine()[READING].wall == 1
    with timed_open(Recorder(), open_url)(str(tmp_path / "x")) as stream:
        buffer = bytearray(300)
        assert stream.readinto(buffer) == 300
        assert buffer == data[:300]
        assert isinstance(stream, io.BufferedReader), "astropy asks for it"


def sleepless(func: Callable[[str], Any], clock: Ticks) -> Callable[[str], Any]:
    def call(url: str) -> Any:
        clock.go(1)
        return func(url)

    return call


def test_imports_are_a_stage_wherever_they_happen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_to_import.py").write_text(f"import time\ntime.sleep({NAP})\nX = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    recorder = Recorder()
    with recorder.stage("outer"), timed_imports(recorder):
        from slow_to_import import X
    assert X == 1
    assert recorder.mine()["imports"].wall >= NAP - 0.001
    assert recorder.mine()["outer"].wall < recorder.mine()["imports"].wall


def made(seconds: Mapping[tuple[str, str], float]) -> Profile:
    lines = tuple(
        Line(thread=t, stage=s, seconds=n, cpu=n, share=n / 100, calls=1, peak=1, added=0, disk=0)
        for (t, s), n in seconds.items()
    )
    return Profile(
        seconds=100, cpu=120, unseen=1, sampling=1, peak=10**9, lines=lines, batches={"t": Batches(2, 12, 8)}, depth=3.5
    )


def test_the_advice_follows_from_who_waits() -> None:
    reading = made({(MAIN, WAIT_READER): 60, (MAIN, FORWARD): 30, (READER, "measuring"): 70, (READER, "decoding"): 9})
    assert "the reader limits" in advice(reading)
    assert "went into measuring" in advice(reading)
    model = made({(MAIN, WAIT_READER): 1, (MAIN, FORWARD): 80, (READER, WAIT_MODEL): 60, (READER, "measuring"): 20})
    assert "most of it is forward" in advice(model)
    assert "--device" in advice(model)
    answers = made({(MAIN, "answers"): 80, (READER, WAIT_MODEL): 60, (READER, "measuring"): 20})
    assert "--device" not in advice(answers), "the classical answer is not on the device"
    small = made({(MAIN, "imports"): 55, (MAIN, FORWARD): 10, (READER, WAIT_MODEL): 60})
    assert advice(small).startswith("55 % of the time is the start")
    assert "--force" in advice(dataclasses.replace(small, batches={}))


def test_remarks_say_what_the_table_does_not() -> None:
    profile = made({(MAIN, WAIT_READER): 60, (MAIN, FORWARD): 30, (READER, "measuring"): 10, (READER, WAIT_MODEL): 5})
    half = tuple(dataclasses.replace(line, cpu=0.25 * line.seconds) for line in profile.lines)
    text = "\n".join(remarks(dataclasses.replace(profile, lines=half)))
    assert "had a processor for 25 % of the time" in text
    assert "the model waited 60.00 s for the reader, the reader 5.00 s for the model" in text
    assert "t: 2 batches of 6.0 objects in the mean, with 8 places" in text
    assert "3.5 were waiting" in text
    assert "1000 MB" in text


def test_sums_stand_below_each_kind_of_thread() -> None:
    rows = made({(MAIN, WAIT_READER): 60, (MAIN, FORWARD): 40, (READER, WAIT_MODEL): 5}).with_sums()
    assert [(r.thread, r.stage, r.seconds) for r in rows if r.stage == "all"] == [
        (MAIN, "all", 100),
        (READER, "all", 5),
    ]
    assert [kind_of(n) for n in ("MainThread", "nightcat-reader", "x")] == [MAIN, READER, "helpers"]


def test_every_stage_stands_in_the_page() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "profiling.md").read_text()
    assert [stage for stage, what in STAGES.items() if f"| `{stage}` | {what} |" not in page] == []
