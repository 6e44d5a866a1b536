from __future__ import annotations

import numpy as np
import pytest

from finetune.coverage import share_interval


def test_it_is_the_interval_of_wilson() -> None:
    share, low, high = share_interval([True] * 8 + [False] * 2, list("abcdefghij"))
    assert (share, low, high) == (0.8, pytest.approx(0.4902, abs=1e-3), pytest.approx(0.9433, abs=1e-3))


def test_copies_of_one_object_do_not_make_it_surer() -> None:
    wide = share_interval([True, True, False, True] * 10, ["a", "b", "c", "d"] * 10)
    assert wide == share_interval([True, True, False, True], ["a", "b", "c", "d"])


def test_none_of_nothing_and_no_end_beyond_the_ends() -> None:
    assert share_interval([], []) == (None, None, None)
    assert share_interval(np.ones(5, bool), list("abcde"))[2] == 1.0
    assert 0 < share_interval(np.ones(5, bool), list("abcde"))[1] < 1
