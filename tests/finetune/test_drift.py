"""Drift of simulated nights: no alarm where nothing happened, a timely one where something did."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from finetune.drift import DriftLimits, Finding, against_labels, compared_numbers, compared_texts, watch
from finetune.drift_scores import CLIP, OTHER, Night, Scorer, Statistic, rank, score
from finetune.drift_tests import Reference, add_up
from finetune.labels import LabelError
from finetune.tasks import get
from tests.finetune.toy_task import TASK
from transforms.flags import bits

COLUMNS = 6


def night(name: str, seed: Any, *, files: int = 12, each: int = 12, tau: float = 0.2, **change: Any) -> Night:
    """Objects with what is common to a night (``tau``) and to a file; ``change`` is what happens to them."""
    rng = np.random.default_rng(seed)
    n = files * each
    of_night = rng.normal(0, tau, COLUMNS)
    of_file = np.repeat(rng.normal(0, 0.3, (files, COLUMNS)), each, axis=0)
    values = (rng.normal(0, 1, (n, COLUMNS)) + of_night + of_file) * change.get("scale", 1.0)
    values[:, 0] += change.get("shift", 0.0)
    values[rng.random((n, COLUMNS)) < 0.02 + change.get("missing", 0.0)] = np.nan
    kinds = rng.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1])
    kinds[rng.random(n) < change.get("new_class", 0.0)] = "new"
    flags = np.where(rng.random(n) < 0.05 * np.exp(of_night[0]), bits("EDGE"), 0)
    flags |= np.where(rng.random(n) < 0.003, bits("MASKED"), 0)
    flags |= np.where(rng.random(n) < change.get("flagged", 0.0), bits("SATURATED"), 0)
    vectors = rng.normal(0, 1, (n, 5)) + change.get("moved", 0.0)
    vectors[rng.random(n) < change.get("stray", 0.0)] *= 4
    return Night(
        name=name, groups=np.repeat([f"f{i}" for i in range(files)], each), flags=flags, texts={"kind": kinds},
        numbers={Statistic("value", f"x{i}"): values[:, i] for i in range(COLUMNS)}, embedding=vectors,
    )  # fmt: skip


def survey(seed: int, count: int, reference: int = 14, **options: Any) -> list[Finding]:
    """Undisturbed nights, then ``count`` nights; ``options`` that are callable are functions of the night's number."""
    fixed = {k: v for k, v in options.items() if k in ("files", "each", "tau")}
    before = [night(f"2026-01-{i + 1:02d}", [seed, i], **fixed) for i in range(reference)]

    def after() -> Iterator[Night]:
        for i in range(count):
            own = {k: v(i) if callable(v) else v for k, v in options.items()}
            yield night(f"2026-02-{i + 1:02d}", [seed, 100 + i], **own)

    return watch(before, after())


def alarms(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.alarm]


@pytest.mark.parametrize(
    "kind",
    [{}, {"tau": 1.0}, {"files": 2, "each": 6}, {"files": 1, "each": 100}],
    ids=["usual", "nights-differ", "small-nights", "one-file"],
)
def test_no_alarm_in_30_undisturbed_nights(kind: dict[str, Any]) -> None:
    assert alarms(survey(1, 30, **kind)) == []


@pytest.mark.slow
@pytest.mark.parametrize("tau", [0.0, 0.3, 1.0])
def test_the_rate_of_false_alarms_is_kept(tau: float) -> None:
    """In 60 surveys of 30 nights at a rate of one percent: three with an alarm have a chance of 2 in 100."""
    disturbed = sum(bool(alarms(survey(seed, 30, tau=tau, files=8, each=8))) for seed in range(60))
    assert disturbed <= 2


@pytest.mark.parametrize(
    ("change", "within", "kind", "column"),
    [
        ({"scale": 1.6}, 1, "spread", "x1"),
        ({"shift": 2.5}, 1, "value", "x0"),
        ({"new_class": 0.2}, 2, "class", f"kind={OTHER}"),
        ({"missing": 0.2}, 2, "null", "x1"),
        ({"flagged": 0.1}, 7, "flag", OTHER),
        ({"moved": 1.5}, 1, "embedding", "axis 1"),
        ({"stray": 0.2}, 2, "embedding", "distance"),
    ],
    ids=["detector-noise", "zero-point", "new-class", "nulls", "new-flag", "embedding", "unheard-of-objects"],
)
def test_what_breaks_raises_the_alarm_in_time(change: dict[str, float], within: int, kind: str, column: str) -> None:
    found = [f for f in alarms(survey(2, within, **change)) if f.statistic == Statistic(kind, column)]
    assert found, "named as what it is"
    assert found[0].false_alarm <= 0.01
    assert found[0].since == found[0].night


def test_what_creeps_raises_the_alarm_too() -> None:
    """Seeing that gets worse by a fiftieth of the scatter each night."""
    found = alarms(survey(3, 28, tau=0.1, shift=lambda i: 0.04 * i))
    assert found
    assert {f.statistic.column for f in found} == {"x0"}
    assert min(f.window for f in found) in (1, 7)
    last = [f for f in found if f.statistic == Statistic("value", "x0")][-1]
    assert last.since < last.night == "2026-02-28"


def test_an_alarm_that_ends_and_comes_again_is_dated_anew() -> None:
    found = alarms(survey(4, 20, shift=lambda i: 3.0 if i < 2 or i >= 18 else 0.0))
    own = {f.night: f.since for f in found if f.statistic == Statistic("value", "x0") and f.window == 1}
    assert own == {
        "2026-02-01": "2026-02-01", "2026-02-02": "2026-02-01", "2026-02-19": "2026-02-19", "2026-02-20": "2026-02-19",
    }  # fmt: skip


def test_the_reference_stands_in_the_table_but_is_not_judged() -> None:
    found = survey(5, 2)
    inside = [f for f in found if f.night.startswith("2026-01")]
    assert len({f.night for f in inside}) == 14
    assert all(np.isnan(f.z) and np.isnan(f.false_alarm) and not f.alarm for f in inside)
    assert all(f.window == 1 for f in found), "two nights make no window of seven"


def test_the_answer_does_not_depend_on_the_order_of_objects() -> None:
    before = [night(f"r{i}", [6, i]) for i in range(9)]
    one = night("n", [6, 99], shift=1.0)
    order = np.random.default_rng(0).permutation(len(one.groups))
    two = Night(
        name="n", groups=one.groups[order], numbers={k: v[order] for k, v in one.numbers.items()},
        texts={k: v[order] for k, v in one.texts.items()}, flags=one.flags[order], embedding=one.embedding[order],
    )  # fmt: skip
    for a, b in zip(watch(before, [one]), watch(before, [two]), strict=True):
        assert a.statistic == b.statistic
        np.testing.assert_allclose([a.z, a.false_alarm], [b.z, b.false_alarm], rtol=1e-6, equal_nan=True)


def test_files_are_what_counts_not_objects() -> None:
    """The same objects in a tenth of the files say less."""
    many = {f.statistic: f for f in survey(7, 1, tau=0.0, files=40, each=6, shift=0.5)}
    few = {f.statistic: f for f in survey(7, 1, tau=0.0, files=4, each=60, shift=0.5)}
    name = Statistic("value", "x0")
    assert abs(few[name].z) < abs(many[name].z)


def test_values_are_in_the_unit_of_the_column() -> None:
    found = {f.statistic: f for f in survey(8, 1, shift=3.0, scale=2.0) if f.night == "2026-02-01"}
    middle = found[Statistic("value", "x0")]
    assert middle.value - middle.reference == pytest.approx(3.0, abs=0.8)
    assert middle.difference == pytest.approx(3.0, abs=1.0), "in standard deviations of the reference"
    spread = found[Statistic("spread", "x1")]
    assert spread.value / spread.reference == pytest.approx(2.0, abs=0.4)


def test_a_reference_of_few_nights_is_refused() -> None:
    nights = [night(f"r{i}", i) for i in range(6)]
    empty = Night(name="empty", groups=np.zeros(0, str))
    with pytest.raises(ValueError, match="a reference needs 7 nights with objects; there are 6"):
        watch([*nights, empty], [])


def test_empty_nights_are_passed_over() -> None:
    nights = [night(f"r{i}", i) for i in range(8)]
    assert {f.night for f in watch(nights, [Night(name="e", groups=np.zeros(0, str))])} == {n.name for n in nights}


def test_a_column_that_is_new_or_gone_stops_nothing() -> None:
    nights = [night(f"r{i}", i) for i in range(8)]
    odd = night("n", 50)
    numbers = {Statistic("value", "unheard"): np.ones(len(odd.groups)), **dict(list(odd.numbers.items())[1:])}
    found = watch(nights, [Night(name="n", groups=odd.groups, numbers=numbers, flags=odd.flags, texts=odd.texts)])
    gone = next(f for f in found if f.night == "n" and f.statistic == Statistic("value", "x0"))
    assert np.isnan(gone.z)
    assert gone.objects == 0
    assert not any(f.statistic.column == "unheard" for f in found)


def test_ranks_count_ties_one_half() -> None:
    ranks = rank(np.array([0.0, 1.0, 2.0, 9.0, np.nan]), np.array([1.0, 1.0, 2.0, 3.0]))
    np.testing.assert_allclose(ranks, [0, 0.25, 0.625, 1, np.nan])


def test_scores_are_gaussian_inside_and_go_on_outside() -> None:
    rng = np.random.default_rng(0)
    for sample in (rng.normal(5, 2, 4000), rng.lognormal(0, 2, 4000), rng.standard_cauchy(4000)):
        scores = score(sample, np.sort(sample))
        assert (scores.mean(), scores.std()) == pytest.approx((0, 1), abs=0.01)
        top = score(sample.max() + np.array([0.0, 1.0, 1e12, np.nan]), np.sort(sample))
        assert top[0] < top[1] < top[2] == CLIP
        assert np.isnan(top[3])
    np.testing.assert_array_equal(np.sign(score(np.array([0.0, 1.0, 2.0]), np.ones(9))), [-1, 0, 1])


def test_columns_that_are_null_together_are_watched_once() -> None:
    nights = [night(f"r{i}", i) for i in range(8)]
    holes = [np.random.default_rng(i).random(len(n.groups)) < 0.5 for i, n in enumerate(nights)]
    paired = []
    for one, hole in zip(nights, holes, strict=True):
        numbers = {Statistic("value", name): np.where(hole, np.nan, 1.0 + i) for i, name in enumerate("pq")}
        paired.append(Night(name=one.name, groups=one.groups, numbers=numbers | dict(one.numbers)))
    names = Scorer(paired).statistics
    assert Statistic("null", "p and 1 more") in names
    assert not any(name.kind == "null" and name.column == "q" for name in names)


def test_the_scatter_between_nights_is_found() -> None:
    rng = np.random.default_rng(0)

    def sums(shift: np.ndarray) -> Any:
        return add_up(rng.normal(0.5 + shift, 0.1, (400, 12)), np.repeat(np.arange(20).astype(str), 20))

    law = Reference([sums(rng.normal(0, 0.05, 12)) for _ in range(60)])
    assert np.sqrt(law.tau2) == pytest.approx(np.full(12, 0.05), abs=0.012)
    calm = Reference([sums(np.zeros(12)) for _ in range(60)])
    assert np.sqrt(calm.tau2).max() < 0.01


def test_what_was_never_seen_needs_more_than_one_file() -> None:
    zeros = [add_up(np.zeros((20, 1)), np.repeat(list("abcd"), 5)) for _ in range(10)]
    law = Reference(zeros, np.array([True]))
    one = add_up(np.ones((20, 1)) * (np.arange(20) < 5)[:, None], np.repeat(list("abcd"), 5))
    every = add_up(np.ones((20, 1)), np.repeat(list("abcd"), 5))
    p_one, p_all = (float(law.compare([night]).p[0]) for night in (one, every))
    assert 0.001 < p_one < 0.3
    assert p_all < 1e-4


def test_the_deal_is_exact_where_it_can_be_counted() -> None:
    """One night of 8 files that hold the 8 largest of 64: by a fair deal once in C(64, 8)."""
    values = np.linspace(0, 1, 64)
    parts = [values[8 * i : 8 * i + 8] for i in range(8)]
    nights = [add_up(np.repeat(part, 1)[:, None], np.arange(8).astype(str)) for part in parts]
    law = Reference(nights[:7])
    p = law.deal([nights[7]], np.array([0]), 0.001, 0)
    assert p[0] <= 0.0006
    assert law.deal([nights[3]], np.array([0]), 0.001, 0)[0] > 0.1
    few = Reference([add_up(np.zeros((4, 1)), np.array(list("aabb"))) for _ in range(7)])
    assert few.deal([nights[7]], np.array([0]), 0.001, 0)[0] == 0


def test_limits_of_more_tables_are_stricter() -> None:
    before = [night(f"r{i}", [9, i]) for i in range(10)]
    one = {f.statistic: f for f in watch(before, [night("n", 5)], DriftLimits(tables=1)) if f.night == "n"}
    ten = {f.statistic: f for f in watch(before, [night("n", 5)], DriftLimits(tables=10)) if f.night == "n"}
    for name, finding in one.items():
        assert ten[name].false_alarm == pytest.approx(min(1.0, 10 * finding.false_alarm)) or finding.false_alarm == 1


def test_the_learned_and_the_classical_answer_are_compared() -> None:
    stars = get("stellar_parameters")
    found = compared_numbers(stars, {"teff": np.array([5000.0, np.nan]), "baseline_teff": np.array([5100.0, 1.0])})
    ((name, values),) = found.items()
    assert name == Statistic("disagreement", "teff - baseline_teff")
    np.testing.assert_array_equal(values, [100, np.nan])
    texts = {"class_name": np.array(["a", "b", ""]), "baseline_class_name": np.array(["a", "a", "a"])}
    ((name, values),) = compared_texts(TASK, texts).items()
    np.testing.assert_array_equal(values, [0, 1, np.nan])


def test_labels_give_accuracy_errors_and_coverage() -> None:
    classes = {"best_class_name": ["bright", "faint", None, "faint"], "best_p_max": [0.9, 0.6, None, 0.8]}
    labels = [{"class_name": "bright"}, {"class_name": "bright"}, {"class_name": "faint"}, {}]
    numbers, shares = against_labels(TASK, classes, labels)
    assert numbers == {}
    np.testing.assert_array_equal(shares[Statistic("accuracy", "best_class_name")], [1, 0, np.nan, np.nan])
    np.testing.assert_allclose(shares[Statistic("calibration", "best_p_max")], [-0.1, 0.6, np.nan, np.nan])
    stars = get("stellar_parameters")
    columns = {"best_teff": [5000.0, 6000.0, None], "best_teff_err": [100.0, 100.0, None]}
    numbers, shares = against_labels(stars, columns, [{"teff": 5050.0}, {"teff": 5500.0}, {"teff": 5000.0}])
    np.testing.assert_array_equal(numbers[Statistic("error", "best_teff")], [50, 500, np.nan])
    np.testing.assert_array_equal(shares[Statistic("calibration", "best_teff_err")], [1, 0, np.nan])
    with pytest.raises(LabelError, match="labels of 'teff' are not numbers"):
        against_labels(stars, columns, [{"teff": "hot"}, {}, {}])
