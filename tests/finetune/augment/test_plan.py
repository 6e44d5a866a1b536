"""What the user asks for: names, strengths, probabilities; and the same copies whoever makes them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.augment.entries import PRESETS, SINGLE, entries
from finetune.augment.plan import AugmentError, generator, parse_plan
from finetune.tasks import get, names
from tests.finetune.augment.test_light_curves import pulsator
from tests.finetune.augment.test_spectra import lines
from tests.finetune.augment.test_stamps import point
from transforms.records import Cutout, Identity, LightCurve, Spectrum

RECORDS: dict[type, Identity] = {
    Cutout: point(3.0, 1e4, noise=1.0, bands=("g", "r", "z")), Spectrum: lines(step=1.0), LightCurve: pulsator(),
}  # fmt: skip


def arrays(record: Identity) -> list[np.ndarray]:
    return [value for name in record.__dataclass_fields__ if isinstance(value := getattr(record, name), np.ndarray)]


def same(one: Identity, other: Identity) -> bool:
    return all(
        np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(arrays(one), arrays(other), strict=True)
    )


def test_every_task_has_telescopes_and_single_augmentations() -> None:
    for name in names():
        found = entries(get(name).record)
        assert sum(entry.preset for entry in found.values()) >= 3
        assert len(found) >= 9
    for record, wanted in ((Cutout, "sdss legacysurvey hsc rubin euclid"), (Spectrum, "boss desi lamost"),
                           (LightCurve, "ztf kepler tess rubin")):  # fmt: skip
        assert {e.name for e in PRESETS if e.record is record} == set(wanted.split())
    assert all(len(entry.meaning) > 20 for entry in (*PRESETS, *SINGLE))


ENTRIES = [entry for entry in (*SINGLE, *PRESETS) if entry.name != "tess"]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: f"{e.name}-{e.record.__name__}")
def test_every_augmentation_changes_a_good_record_and_writes_to_none(entry: object) -> None:
    record = RECORDS[entry.record]  # type: ignore[attr-defined]
    if entry.name == "euclid":  # type: ignore[attr-defined]
        record = point(2.0, 1e4, noise=0.01)
    before = [a.copy() for a in arrays(record)]
    new = [entry.act(record, entry.strength, np.random.default_rng(seed)) for seed in range(5)]  # type: ignore[attr-defined]
    assert any(one is not record for one in new)
    assert all(np.array_equal(a, b) for a, b in zip(before, arrays(record), strict=True))
    for one in new:
        assert type(one) is type(record)
        assert all(np.isfinite(a).all() for a in arrays(one) if a.dtype.kind == "f")


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(6)), st.integers(0, 2**31 - 1))
def test_copies_do_not_hang_on_order_or_on_who_makes_them(order: list[int], seed: int) -> None:
    stars = [pulsator(i, n=60) for i in range(3)]
    plan = parse_plan(["rubin:0.5", "noise", "cadence", "bands"], LightCurve)
    work = [(star, copy) for star in stars for copy in range(2)]

    def make(index: int) -> Identity:
        star, copy = work[index]
        return plan.apply(star, generator(star, seed, copy))[0]

    first = [make(i) for i in range(6)]
    again = {i: make(i) for i in order}
    assert all(same(first[i], again[i]) for i in range(6))
    assert not same(first[0], first[1])


def test_a_copy_gets_at_most_one_telescope_with_the_chances_asked_for() -> None:
    record = lines(step=1.0)

    def drawn(texts: list[str], n: int = 400) -> Counter[str]:
        plan = parse_plan(texts, Spectrum)
        return Counter(",".join(plan.apply(record, generator(record, s, 0))[1]) for s in range(n))

    few = drawn(["velocity:0.25"])
    assert few["velocity"] == pytest.approx(100, abs=35)
    assert few["velocity"] + few[""] == 400
    plan = parse_plan(["lamost", "boss:0.5", "desi:0.5"], Spectrum)
    rng = np.random.default_rng(0)
    chosen = Counter(plan._preset(rng).entry.name for _ in range(4000))
    assert chosen["lamost"] == pytest.approx(2000, abs=120)
    assert chosen["boss"] == pytest.approx(1000, abs=100)
    rare = parse_plan(["boss:0.1"], Spectrum)
    assert sum(rare._preset(rng) is None for _ in range(2000)) == pytest.approx(1800, abs=60)


def test_things_happen_in_their_order_whatever_the_users() -> None:
    plan = parse_plan(["noise", "velocity", "dust", "desi"], Spectrum)
    assert plan.names() == ("desi", "velocity", "dust", "noise")
    _, drawn, _ = plan.apply(RECORDS[Spectrum], np.random.default_rng(0))
    assert drawn == ("velocity", "dust", "desi", "noise")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "desk",
            "'desk' is not known for a Spectrum; there are the telescopes boss, desi, lamost and redshift, v",
        ),
        ("ztf", "'ztf' is not known for a Spectrum"),
        ("desi=3", "a telescope has no strength"),
        ("noise=-1", "strength '-1' is not a number above 0"),
        ("noise=nan", "strength 'nan' is not a number"),
        ("noise:1.5", "probability '1.5' is not a number above 0 up to 1"),
        ("noise:0", "probability '0'"),
        ("", "'' is not of the form NAME"),
        ("noise=1=2", "is not of the form"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(AugmentError, match=message.replace("(", r"\(")):
        parse_plan([text], Spectrum)


def test_a_name_twice_is_refused() -> None:
    with pytest.raises(AugmentError, match="names noise more than once"):
        parse_plan(["noise", "noise=2"], Spectrum)
