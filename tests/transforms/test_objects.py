from __future__ import annotations

import dataclasses

from tests import toy
from transforms.flags import decode
from transforms.objects import base_row


def test_numbers_that_are_not_finite_become_null_with_a_flag() -> None:
    record = toy._load("s", 0, "1")
    row = base_row(dataclasses.replace(record, ra=float("nan"), mjd=None, measured={"a": float("inf"), "b": 2.0}))
    assert (row["ra"], row["dec"], row["mjd"], row["a"], row["b"]) == (None, None, None, None, 2.0)
    assert set(decode(row["flags"])) == {"NO_POSITION", "NO_TIME", "MEASURE_FAILED"}
