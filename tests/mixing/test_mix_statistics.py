# SPDX-License-Identifier: Apache-2.0
import logging

import numpy as np
import pytest
from lerobot.datasets.compute_stats import aggregate_stats, get_feature_stats

from lerobot_ext.mixing.statistics import Source, combine, mixed_stats

VECTOR = {"dtype": "float32", "shape": (3,)}
CAMERA = {"dtype": "video", "shape": (4, 6, 3)}
rng = np.random.default_rng(0)
PARTS = [
    rng.normal(0, 1, (400, 3)),
    rng.normal([5, -20, 90], [0.1, 3, 2], (150, 3)),
    rng.exponential(2, (90, 3)) + 3,
]
WEIGHTS = np.array([0.2, 0.5, 0.3])


def recorded(values):
    """As LeRobot computes them."""
    return get_feature_stats(values, axis=0, keepdims=False)


def sources(shares=WEIGHTS, parts=PARTS, with_values=True, whole=True):
    return [
        Source(float(share), f"d{index}", recorded(values), values if with_values else None, whole)
        for index, (share, values) in enumerate(zip(shares, parts, strict=True))
    ]


def drawn(count=200_000):
    """What a long training sees."""
    chosen = np.random.default_rng(1).choice(3, p=WEIGHTS, size=count)
    rows = np.random.default_rng(2).random(count)
    return np.stack(
        [PARTS[part][int(row * len(PARTS[part]))] for part, row in zip(chosen, rows, strict=True)]
    )


def test_statistics_are_those_of_what_is_drawn():
    stats = mixed_stats("action", VECTOR, sources())
    seen = drawn()
    spread = seen.std(0)
    assert np.all(np.abs(stats["mean"] - seen.mean(0)) < 0.02 * spread)
    assert stats["std"] == pytest.approx(spread, rel=0.02)
    everything = np.concatenate(PARTS)
    assert np.array_equal(stats["min"], everything.min(0))
    assert np.array_equal(stats["max"], everything.max(0))
    for key in ("q01", "q10", "q50", "q90", "q99"):
        # The part of the draws at or below a quantile, not its value: that may lie in a gap between datasets.
        below = (seen <= stats[key]).mean(0)
        assert below == pytest.approx(np.full(3, int(key[1:]) / 100), abs=0.01), key


def test_mean_and_deviation_are_exact():
    rows = np.concatenate(PARTS)
    weight = np.concatenate([np.full(len(p), w / len(p)) for p, w in zip(PARTS, WEIGHTS, strict=True)])[
        :, None
    ]
    mean = (weight * rows).sum(0)
    stats = mixed_stats("action", VECTOR, sources())
    assert stats["mean"] == pytest.approx(mean, rel=1e-12)
    assert stats["std"] == pytest.approx(np.sqrt((weight * (rows - mean) ** 2).sum(0)), rel=1e-12)


def test_weighted_by_frames_they_agree_with_lerobot():
    frames = np.array([len(part) for part in PARTS])
    ours = mixed_stats("action", VECTOR, sources(frames / frames.sum()))
    theirs = aggregate_stats([{"action": recorded(part)} for part in PARTS])["action"]
    for key in ("mean", "std", "min", "max", "count"):
        assert ours[key] == pytest.approx(theirs[key], rel=1e-6), key
    assert ours.keys() == theirs.keys()
    assert all(ours[key].shape == theirs[key].shape for key in ours)


def test_quantiles_of_a_mixture_come_from_its_distribution_not_from_a_mean_of_quantiles():
    stats = combine([source.recorded for source in sources(with_values=False)], WEIGHTS)
    seen = drawn()
    for key in ("q01", "q10", "q50", "q90", "q99"):
        below = (seen <= stats[key]).mean(0)
        # Linear between recorded quantiles: exact at them, off by a few percent between.
        assert below == pytest.approx(np.full(3, int(key[1:]) / 100), abs=0.06), key


def test_one_dataset_alone_keeps_its_recorded_quantiles():
    alone = recorded(PARTS[0])
    stats = combine([alone], np.ones(1))
    for key, value in alone.items():
        assert stats[key] == pytest.approx(value, rel=1e-9), key


def test_constant_numbers_have_statistics():
    parts = [np.full((5, 2), 90.0), np.full((4, 2), 90.0)]
    stats = mixed_stats("action", VECTOR, sources((0.5, 0.5), parts))
    assert stats["mean"] == pytest.approx([90, 90])
    assert stats["std"] == pytest.approx([0, 0])
    assert stats["q01"] == pytest.approx([90, 90])


def test_cameras_are_mixed_from_what_was_recorded():
    dark = {"mean": 0.2, "std": 0.1, "min": 0.0, "max": 0.5, "q01": 0.01, "q50": 0.2, "q99": 0.4}
    light = {key: value + 0.5 for key, value in dark.items()} | {"std": 0.1}
    shaped = [{key: np.full((3, 1, 1), value) for key, value in each.items()} for each in (dark, light)]
    stats = mixed_stats("top", CAMERA, [Source(0.25, "a", shaped[0]), Source(0.75, "b", shaped[1])])
    assert stats["mean"].shape == (3, 1, 1)
    assert stats["mean"].ravel() == pytest.approx([0.575] * 3)
    assert stats["std"].ravel() == pytest.approx([np.sqrt(0.01 + 0.25 * 0.75 * 0.25)] * 3)
    assert stats["q99"].ravel() == pytest.approx([0.9] * 3, abs=0.02)


def test_a_camera_without_statistics_is_named_with_a_remedy():
    with pytest.raises(ValueError, match=r"dataset b of the mix has no statistics of `top`; .*doctor"):
        mixed_stats("top", CAMERA, [Source(1.0, "b", None)])


def test_numbers_without_recorded_statistics_get_them_from_the_frames():
    stats = mixed_stats("action", VECTOR, [Source(1.0, "a", None, PARTS[0])])
    assert stats["mean"] == pytest.approx(PARTS[0].mean(0))


@pytest.mark.parametrize("whole", [True, False])
def test_recomputed_statistics_are_kept_and_it_is_said(caplog, whole):
    """As `lerobot-edit-dataset` recomputes them for relative actions."""
    relative = recorded(PARTS[1] - PARTS[1].mean(0))
    with caplog.at_level(logging.WARNING):
        stats = mixed_stats("action", VECTOR, [Source(1.0, "a", relative, PARTS[1], whole)])
    assert "recorded statistics of `action` of dataset a are not those of its frames" in caplog.text
    assert stats["mean"] == pytest.approx(relative["mean"])


def test_fewer_episodes_than_recorded_are_no_contradiction(caplog):
    half = PARTS[1][PARTS[1][:, 0] > 5]
    stats = mixed_stats("action", VECTOR, [Source(1.0, "a", recorded(PARTS[1]), half, False)])
    assert not caplog.text
    assert stats["mean"] == pytest.approx(half.mean(0))
