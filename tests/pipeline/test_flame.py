"""Flame graphs: what was looked at, collapsed lines that other tools read, and the picture."""

from __future__ import annotations

import sys
import threading
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.flame import COLOURS, WIDTH, collapsed, colour_of, picture, tree
from pipeline.profile_points import STAGES, WAIT_MODEL, timed, timed_imports
from pipeline.profiling import OTHER, Recorder
from pipeline.sampling import Sampler, module_of

SVG = "{http://www.w3.org/2000/svg}"


def a_function_that_is_known(entered: threading.Event, go_on: threading.Event) -> None:
    entered.set()
    go_on.wait()


@contextmanager
def busy(recorder: Recorder, name: str, stage: str = "") -> Iterator[None]:
    """A thread that is in the function that is known, while it lasts."""
    entered, go_on = threading.Event(), threading.Event()

    def work() -> None:
        with recorder.stage(OTHER):
            timed(recorder, stage, a_function_that_is_known)(entered, go_on)

    target = work if stage else lambda: a_function_that_is_known(entered, go_on)
    thread = threading.Thread(target=target, name=name)
    thread.start()
    entered.wait()
    try:
        yield
    finally:
        go_on.set()
        thread.join()


def known(stacks: Counter[tuple[str, ...]]) -> dict[tuple[str, ...], float]:
    return {s: n for s, n in stacks.items() if any("a_function_that_is_known" in part for part in s)}


def test_a_look_sees_thread_stage_and_functions() -> None:
    recorder = Recorder()
    sampler = Sampler(recorder)
    with busy(recorder, "worker-3", "measuring"), busy(recorder, "idle_1_2"):
        sampler.look(0.25, sys._current_frames())
        sampler.look(0.5, sys._current_frames())
    sampler.look(1.0, sys._current_frames())
    sampler.close()
    found = {stack[:3]: seconds for stack, seconds in known(sampler.stacks).items()}
    module = module_of(__file__)
    assert found.pop(("worker", "measuring", f"{module}:a_function_that_is_known")) == 0.75, "what lies above is cut"
    ((stack, seconds),) = found.items()
    assert stack[:2] == ("idle_1", "")
    assert seconds == 0.75
    main = sum(seconds for stack, seconds in sampler.stacks.items() if stack[0] == "MainThread")
    assert main == 1.75
    (times,) = [t for t in recorder.threads if t.name == "worker-3"]
    if sampler.peak:
        assert times["measuring"].peak > 1e7
        assert times[OTHER].peak == 0, "it was never seen there"


def test_memory_that_comes_is_divided_among_the_threads_that_work(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    sampler = Sampler(recorder)
    sampler.close()
    memory = [sampler._memory]
    monkeypatch.setattr(Sampler, "_resident", lambda self: memory[-1])
    first = memory[0]
    with busy(recorder, "a", "forward"), busy(recorder, "b", "measuring"), busy(recorder, "c", WAIT_MODEL):
        memory.append(first + 1000)
        sampler.look(0.1, sys._current_frames())
    with busy(recorder, "c", WAIT_MODEL):
        memory.append(first + 400)
        sampler.look(0.1, sys._current_frames())
    found: Counter[str] = Counter()
    for times in recorder.threads:
        for stage, spent in times.stages.items():
            found[stage] += spent.added
            assert spent.peak in (0, first + 1000, first + 400)
    assert found == {"forward": 500, "measuring": 500, WAIT_MODEL: -600, OTHER: 0}
    assert sampler.peak == first + 1000


def test_the_sampler_looks_by_itself_and_ends() -> None:
    recorder = Recorder()
    with Sampler(recorder, 500) as sampler, busy(recorder, "worker", "forward"):
        while sampler.looks < 3:
            threading.Event().wait(0.01)
    assert sampler.cost > 0
    assert known(sampler.stacks)
    assert not any(t.name == "nightcat-sampler" for t in threading.enumerate())
    assert not any(stack[0] == "nightcat-sampler" for stack in sampler.stacks), "not at itself"


def test_imports_are_not_cut_where_they_nest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    sampler = Sampler(recorder)
    (tmp_path / "outer_module.py").write_text("import inner_module\n")
    (tmp_path / "inner_module.py").write_text("import sys\nsys.look()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(
        sys, "look", lambda: sampler.look(1.0, {threading.get_ident(): sys._getframe(1)}), raising=False
    )

    def loads() -> None:
        import outer_module  # noqa: F401

    with timed_imports(recorder):
        timed(recorder, "models", loads)()
    sampler.close()
    ((stack, _),) = sampler.stacks.items()
    assert stack[:2] == ("MainThread", "imports")
    assert [part.rpartition(":")[2] for part in stack[2:]] == [loads.__qualname__, "<module>", "<module>"]
    assert [part.partition(":")[0] for part in stack[3:]] == ["outer_module", "inner_module"]


STACKS = {
    ("MainThread", "forward", "a:f", "a:g"): 2.0,
    ("MainThread", "forward", "a:f"): 1.0,
    ("MainThread", "imports", "b:<module>"): 0.5,
    ("reader", "decoding", "c:h", "threading:Condition.wait"): 0.5,
    ("idle", "", "threading:Thread.run", "threading:Condition.wait"): 4.0,
}


def test_collapsed_lines_parse_and_add_up() -> None:
    lines = collapsed(STACKS).splitlines()
    assert lines == sorted(lines)
    parsed = {}
    for line in lines:
        stack, _, count = line.rpartition(" ")
        parsed[tuple(stack.split(";"))] = int(count)
    assert parsed == {tuple(filter(None, stack)): round(1e6 * seconds) for stack, seconds in STACKS.items()}


def test_who_waits_in_no_stage_is_not_drawn() -> None:
    root = tree(STACKS)
    assert root.seconds == 4.0
    assert sorted(root.inner) == ["MainThread", "reader"]
    assert root.inner["MainThread"].inner["forward"].inner["a:f"].seconds == 3.0


def test_the_picture_is_svg_that_needs_nothing_and_whose_widths_add_up() -> None:
    text = picture(STACKS, "a <title> & more", STAGES)
    root = ET.fromstring(text)
    assert "a <title> & more" in [t.text for t in root.iter(f"{SVG}text")]
    frames = [g for g in root.iter(f"{SVG}g") if g.get("class") == "f"]
    wide: Counter[int] = Counter()
    for frame in frames:
        wide[int(frame.get("data-d", ""))] += float(frame.get("data-w", ""))
    assert wide[0] == wide[1] == wide[2] == WIDTH
    assert wide[4] == WIDTH * 2.5 / 4
    names = [frame.get("data-n") for frame in frames]
    assert names.index("imports") < names.index("forward"), "stages in the order of a night"
    tips = [frame.findtext(f"{SVG}title") for frame in frames]
    assert any(tip.startswith("forward: the network") and "3.000 s, 75.0 %" in tip for tip in tips)
    assert "http" not in text.replace("http://www.w3.org/2000/svg", ""), "no network"


def test_no_stack_at_all_is_an_empty_picture() -> None:
    assert ET.fromstring(picture({}, "nothing", STAGES)).tag == f"{SVG}svg"
    assert collapsed({}) == ""


def test_colours_say_whose_code_it_is() -> None:
    assert colour_of("torch.nn.functional:linear") == COLOURS["torch"][1]
    assert colour_of("transforms.period:measure") == COLOURS["nightcat"][1]
    assert colour_of("queue:Queue.get") == COLOURS["waiting"][1]
    assert colour_of("html:escape") == COLOURS["other code"][1]


@pytest.mark.parametrize(
    ("path", "name"),
    [(f"{sys.path[-1]}/torch/nn/__init__.py", "torch.nn"), ("<frozen runpy>", "<frozen_runpy>"), ("/no/x.py", "x")],
)
def test_modules_are_named_from_their_files(path: str, name: str) -> None:
    assert module_of(path) == name
