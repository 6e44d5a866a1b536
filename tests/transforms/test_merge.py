"""Several alerts of one object to one light curve."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from transforms.attempt import Unusable
from transforms.merge import merge_light_curves
from transforms.records import LightCurve


def curve(times: list[float], flux: float, bands: str = "", **more: object) -> LightCurve:
    n = len(times)
    return LightCurve(
        source="s", object_id="o", time=np.array(times), flux=np.full(n, flux), flux_err=np.ones(n),
        band=np.array(list(bands or "g" * n)), quality=np.zeros(n, bool), **more,
    )  # fmt: skip


def test_each_exposure_is_there_once_as_the_last_alert_has_it() -> None:
    merged = merge_light_curves([curve([1.0, 2.0], 5.0, flags=1), curve([2.0, 3.0], 7.0, flags=4, ra=10.0)])
    assert merged.time.tolist() == [1.0, 2.0, 3.0]
    assert merged.flux.tolist() == [5.0, 7.0, 7.0]
    assert (merged.flags, merged.ra) == (5, 10.0)


def test_two_bands_of_one_time_are_two_exposures_whatever_the_order() -> None:
    parts = [curve([1.0, 1.0], 5.0, "gr"), curve([0.5], 5.0, "r")]
    for some in (parts, parts[::-1]):
        merged = merge_light_curves(some)
        assert list(zip(merged.time.tolist(), merged.band.tolist(), strict=True)) == [
            (0.5, "r"),
            (1.0, "g"),
            (1.0, "r"),
        ]


def test_one_alert_is_itself() -> None:
    one = curve([3.0, 4.0], 1.0)
    assert merge_light_curves([one]).time.tolist() == [3.0, 4.0]


def test_units_and_time_scales_are_not_mixed() -> None:
    one = curve([1.0], 1.0)
    for other in (replace(one, unit="adu"), replace(one, time_scale="tai")):
        with pytest.raises(Unusable, match="'o' in different units or time scales"):
            merge_light_curves([one, other])
