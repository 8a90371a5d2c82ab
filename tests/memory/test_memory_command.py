# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext memory` as a user calls it, for a small ACT."""

import json
from types import SimpleNamespace

from lerobot_ext.cli.look import console
from lerobot_ext.cli.main import main
from lerobot_ext.memory import report
from lerobot_ext.memory.savings import Saving

SMALL = ["--policy.type=act", "--policy.dim_model=32", "--policy.n_heads=2", "--policy.dim_feedforward=64"]
ROBOT = ["--cameras=1", "--pictures=48x64", "--batch_size=2", "--no-savings"]


def test_the_json_has_estimate_measurement_and_largest_batch(capsys):
    words = [*SMALL, *ROBOT, "--policy.device=cpu", "--memory=2GiB", "--measure=yes", "--json"]
    assert main(["memory", *words]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["policy"], said["batch_size"], said["optimizer"]) == ("act", 2, "adamw")
    assert said["totals"]["parameters"] == 4 * said["parameters"]
    assert said["modules"][0]["bytes"] == said["totals"]
    names = {module["name"] for module in said["modules"]}
    assert {"model", "model.backbone", "model.backbone.layer1.0.conv1"} <= names
    assert said["largest_batch"] > 2
    assert abs(said["peak"] - said["measured"]["peak"]) <= 0.06 * said["measured"]["peak"]
    assert "made-up robot" in said["notes"][0]


def test_people_get_tables(capsys):
    assert main(["memory", *SMALL, *ROBOT, "--measure=no", "--memory=1GiB", "--reserve=1023MiB"]) == 0
    said = capsys.readouterr().out
    for words in ("model.backbone", "activations", "estimated peak", "not even a batch of 1 fits into 1 GiB"):
        assert words in said
    assert "measured" not in said


def test_what_saves_nothing_is_not_listed(capsys):
    def savings(*peaks):
        usages = [SimpleNamespace(peak=peak) for peak in peaks]
        named = [Saving(f"way {usage.peak}", "--policy.way=true", usage) for usage in usages]
        found = SimpleNamespace(usage=SimpleNamespace(peak=1000), savings=named)
        report._show_savings(console(), found)
        return capsys.readouterr().out

    said = savings(1000, 999, 700, 1200)
    assert "way 700" in said
    assert "(30 %)" in said
    assert "way 1000" not in said
    assert "way 999" not in said
    assert "way 1200" not in said
    assert savings(1000) == "nothing that this policy offers would save memory\n"
