"""When a night is over, and what is done then: its many small runs become one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta


def is_past(night: str, close: float | None, now: float) -> bool:
    """Say whether the hour at which a night is closed has come.

    Parameters
    ----------
    night : str
        Date of its evening.
    close : float or None
        Hour, UTC, of the day after; None: never.
    now : float
        Unix time, in s.

    Returns
    -------
    bool
        True from that hour on.
    """
    if close is None:
        return False
    evening = datetime.fromisoformat(night).replace(tzinfo=UTC)
    return now >= (evening + timedelta(days=1, hours=close)).timestamp()


def close_night(catalog: str, night: str, tell: Callable[..., None]) -> None:
    """Merge the runs of a night, and tell what it holds.

    Parameters
    ----------
    catalog : str
        Its root.
    night : str
        The night.
    tell : callable
        ``tell(event, **values)``: ``trouble`` where it cannot be merged, and then ``closed``.

    Raises
    ------
    OutputError
        Where the catalog cannot be written.
    """
    from pipeline.compact import compact
    from pipeline.hats import CatalogError
    from pipeline.ledger import Ledger

    try:
        compact(catalog, night)
    except CatalogError as error:  # made by several models: its rows stay as they are
        tell("trouble", reason=str(error), failures=0)
    runs = Ledger(catalog).runs(night)
    totals = {name: sum(run.manifest["counts"]["total"][name] for run in runs) for name in ("rows", "rejects")}
    tell("closed", night=night, runs=len(runs), **totals)
