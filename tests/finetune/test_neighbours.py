"""Nearest, spread and grouped points."""

from __future__ import annotations

import numpy as np
import pytest

from finetune.embedding_space import fit_space
from finetune.neighbours import coordinates, groups, likeness, nearest, spread

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(200, 6))


def test_nearest_is_what_the_plain_loop_finds() -> None:
    index, distance = nearest(POINTS[:5], POINTS, 7)
    for q in range(5):
        plain = np.sqrt(((POINTS - POINTS[q]) ** 2).sum(1))
        np.testing.assert_array_equal(index[q], np.argsort(plain)[:7])
        np.testing.assert_allclose(distance[q], np.sort(plain)[:7], atol=1e-6)
    assert index[3, 0] == 3


def test_more_than_there_are_gives_all() -> None:
    assert nearest(POINTS[:2], POINTS[:4], 10)[0].shape == (2, 4)


def test_coordinates_are_whitened_where_the_model_has_a_space() -> None:
    space = fit_space(POINTS * [100, 1, 1, 1, 1, 1], POINTS[:50] * [100, 1, 1, 1, 1, 1])
    assert space is not None
    found = coordinates(POINTS * [100, 1, 1, 1, 1, 1], space)
    np.testing.assert_allclose(found[:, :6].std(0), 1, rtol=0.02)
    np.testing.assert_array_equal(coordinates(POINTS, None), POINTS)


def test_spread_takes_the_worthiest_and_then_others_of_another_kind() -> None:
    points = np.concatenate([np.zeros((10, 2)) + RNG.normal(0, 0.01, (10, 2)), np.full((1, 2), 5.0), [[0.0, 9.0]]])
    worth = np.r_[np.linspace(0.9, 1.0, 10), 0.5, 0.4]
    assert spread(points, worth, 3) == [9, 11, 10]
    assert sorted(spread(points, worth, 99)) == list(range(12))


def test_groups_are_numbered_by_size_and_loners_are_in_none() -> None:
    points = np.concatenate([RNG.normal(0, 0.1, (12, 3)), RNG.normal(0, 0.1, (30, 3)) + 10, [[50, 0, 0], [-50, 0, 0]]])
    found = groups(points, 5)
    assert (found[:12] == 1).mean() > 0.9
    assert (found[12:42] == 0).mean() > 0.9
    assert found[42:].tolist() == [-1, -1]


@pytest.mark.parametrize("count", [0, 1, 4])
def test_fewer_points_than_a_group_are_in_none(count: int) -> None:
    assert groups(POINTS[:count], 5).tolist() == [-1] * count


def test_axes_that_hold_noise_hardly_count_for_what_is_alike() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(0, 1, (300, 40)) * np.array([10.0, 10.0] + [0.05] * 38)
    kinds = np.repeat([0, 1, 2], 100)
    vectors[:, 0] += 40 * kinds
    space = fit_space(vectors, vectors + rng.normal(0, 0.05, vectors.shape))

    def same(points: np.ndarray) -> float:
        index, _ = nearest(points, points, 6)
        return float((kinds[index[:, 1:]] == kinds[:, None]).mean())

    assert same(likeness(vectors, space)) > 0.9 > same(coordinates(vectors, space))

    np.testing.assert_array_equal(likeness(vectors, None), vectors)
