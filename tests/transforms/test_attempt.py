from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.attempt import Tallies, Unusable, attempt, attempt_batch, reject
from transforms.records import Reject

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
