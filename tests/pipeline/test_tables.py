from __future__ import annotations

import pytest
from astropy import units as u

from pipeline.tables import table_columns, table_names


@pytest.mark.parametrize("table", table_names())
def test_every_unit_is_one_that_astropy_knows(table: str) -> None:
    for column in table_columns(table):
        if column.unit:
            unit = u.Unit(column.unit, parse_strict="raise")
            assert u.Unit(unit.to_string(), parse_strict="raise") == unit, column.name


def test_logarithms_of_days_are_of_base_ten() -> None:
    column = next(c for c in table_columns("variable_star") if c.name == "lc_burst_days")
    assert (2.0 * u.Unit(column.unit)).physical == 100 * u.day
