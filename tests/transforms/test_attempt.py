from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.attempt import Tallies, Unusable, attempt, attempt_batch, reject
from transforms.records import FileRef, Reject

WHERE = {"source": "a.fits", "hdu": "1"}


def test_done_is_counted_and_passed_on() -> None:
    tallies = Tallies()
    assert list(attempt("read", lambda x: x + 1, tallies, 1, where=WHERE)) == [2]
    tally = tallies["read"]
    assert (tally.entered, tally.done, tally.rejected, tally.out) == (1, 1, 0, 1)


def test_an_error_becomes_a_reject_that_says_where_and_what() -> None:
    def fail(x: int) -> int:
        raise Unusable(f"value {x} is\n no good")

    tallies = Tallies()
    (found,) = attempt("read", fail, tallies, 7, where=WHERE)
    assert found == Reject(source="a.fits", hdu="1", stage="read", error="Unusable", reason="value 7 is no good")
    assert (tallies["read"].entered, tallies["read"].done, tallies["read"].rejected) == (1, 0, 1)


def test_a_generator_that_fails_late_keeps_what_it_gave() -> None:
    def some() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    tallies = Tallies()
    first, second = attempt("open", some, tallies, many=True, where=WHERE)
    assert first == 1
    assert second.error == "ValueError"
    assert (tallies["open"].out, tallies["open"].rejected, tallies["open"].done) == (1, 1, 0)


def test_an_error_without_a_message_still_has_a_reason() -> None:
    assert reject("read", KeyError(), **WHERE).reason == "KeyError without a message"


def test_interrupts_are_not_swallowed() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(attempt("read", stop, Tallies(), where=WHERE))


@given(st.lists(st.booleans(), min_size=1, max_size=16))
def test_each_poisoned_record_of_a_batch_is_rejected_alone(bad: list[bool]) -> None:
    def model(part: list[int], size: int) -> list[int]:
        assert size == 16
        if any(bad[i] for i in part):
            raise ValueError("poison")
        return [10 * i for i in part]

    tallies = Tallies()
    out = attempt_batch("infer", model, tallies, list(range(len(bad))), 16, lambda i: {"source": str(i)})
    assert len(out) == len(bad)
    for i, (is_bad, got) in enumerate(zip(bad, out, strict=True)):
        if is_bad:
            assert isinstance(got, Reject)
            assert got.source == str(i)
        else:
            assert got == 10 * i
    tally = tallies["infer"]
    assert tally.entered == len(bad)
    assert tally.rejected == sum(bad)
    assert tally.done == len(bad) - sum(bad)


@pytest.mark.parametrize("limit", [1, 2, 3, 8])
def test_out_of_memory_halves_the_padded_batch(limit: int) -> None:
    shapes = []

    def model(part: list[int], size: int) -> list[int]:
        shapes.append(size)
        assert len(part) <= size
        if size > limit:
            raise MemoryError(f"{size} do not fit")
        return part

    assert attempt_batch("infer", model, Tallies(), list(range(8)), 8, lambda i: WHERE) == list(range(8))
    assert max(shapes) == 8
    assert min(shapes) <= limit


def test_out_of_memory_with_one_record_is_its_reject() -> None:
    def model(part: list[int], size: int) -> list[int]:
        raise MemoryError("none left")

    out = attempt_batch("infer", model, Tallies(), [1, 2, 3], 4, lambda i: {"source": str(i)})
    assert [r.source for r in out] == ["0", "1", "2"]


def missing_module() -> None:
    import no_such_module_of_ours  # type: ignore[import-not-found]  # noqa: F401


def missing_name() -> None:
    no_such_name  # type: ignore[name-defined]  # noqa: B018, F821


def broken_code() -> None:
    compile("def f(:", "transforms/readers/new.py", "exec")


@pytest.mark.parametrize(
    ("func", "kind"), [(missing_module, ImportError), (missing_name, NameError), (broken_code, SyntaxError)]
)
def test_a_fault_of_ours_is_no_reject(func: Callable[[], None], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        list(attempt("read", func, Tallies(), where=WHERE))
    with pytest.raises(kind):
        attempt_batch("infer", lambda part, size: func(), Tallies(), [1, 2], 2, lambda i: {"source": "a"})  # type: ignore[arg-type, return-value]


def bad_literal() -> None:
    ast.literal_eval("{1:")


def bad_picture() -> None:
    raise SyntaxError("broken PNG file")  # as Pillow does


@pytest.mark.parametrize("func", [bad_literal, bad_picture])
def test_a_syntax_error_of_data_is_a_reject(func: Callable[[], None]) -> None:
    (found,) = attempt("read", func, Tallies(), where=WHERE)
    assert found.error == "SyntaxError"


def test_a_sniff_with_a_fault_of_ours_is_not_a_no(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from transforms import readers

    (tmp_path / "x").write_bytes(b"abc")
    broken = replace(next(iter(readers.formats().values())), sniff=lambda source: missing_name())  # type: ignore[arg-type, return-value]
    monkeypatch.setattr(readers, "formats", lambda: {"broken": broken})
    with readers.Source(FileRef(url=str(tmp_path / "x"), source="x")) as source, pytest.raises(NameError):
        readers.identify(source)
