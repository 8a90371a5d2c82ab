# SPDX-License-Identifier: Apache-2.0
import pytest

from lerobot_ext.online_rl.evaluation import SuccessCurve
from lerobot_ext.training.plot.runs import load_runs

pytest.importorskip("matplotlib")


def figures(percent):
    return {"env/pc_success": percent, "env/n_episodes": 50, "env/avg_sum_reward": percent / 100}


def test_the_curve_is_a_table_and_a_picture(tmp_path):
    curve = SuccessCurve(tmp_path, 0)
    for step, percent in ((0, 10.0), (1000, 40.0)):
        curve.add(step, figures(percent))
    [run] = load_runs([str(tmp_path / "online.csv")])
    assert run.successes() == [(0, 5, 50), (1000, 20, 50)]
    assert (tmp_path / "online.png").stat().st_size > 1000
    resumed = SuccessCurve(tmp_path, 500)
    resumed.add(1000, figures(60.0))
    [run] = load_runs([str(tmp_path / "online.csv")])
    assert run.successes() == [(0, 5, 50), (1000, 30, 50)]
