# SPDX-License-Identifier: Apache-2.0
"""What `docs/training.md` tells users to type is understood by the trainer, and its lists are the code's."""

import re
import shlex
from pathlib import Path

import pytest

from lerobot_ext.training import hook

TEXT = (Path(__file__).parents[2] / "docs/training.md").read_text()
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.S)
    for line in block.replace("\\\n", " ").splitlines()
]
SWITCHES = {
    hook.METRICS_SWITCH: hook.record_metrics,
    hook.EVENTS_SWITCH: hook.record_metrics,
    hook.ETA_SWITCH: hook.show_time_left,
    hook.ACCUMULATION_SWITCH: hook.accumulate_gradients,
    hook.ORDER_SWITCH: hook.resume_data_order,
    hook.LAST_SWITCH: hook.point_without_links,
    hook.MEMORY_SWITCH: hook.record_memory_peaks,
}


@pytest.mark.parametrize("words", [words for words in COMMANDS if words[0] == "lerobot-train"], ids=" ".join)
def test_options_of_the_trainer_are_accepted_and_make_the_optimizer(words, tmp_path, monkeypatch):
    from lerobot.scripts import lerobot_train
    from stock_loop import config

    from lerobot_ext.training import accumulation_hooks
    from lerobot_ext.training.config_accumulation import AccumulatedAdamWConfig

    monkeypatch.setattr("sys.argv", words)
    accumulation_hooks.install(lerobot_train)
    try:
        cfg = config([*words[1:], "--policy.push_to_hub=false", f"--output_dir={tmp_path / 'out'}"])
        cfg.validate()
    finally:
        accumulation_hooks.uninstall()
    assert isinstance(cfg.optimizer, AccumulatedAdamWConfig)
    assert cfg.optimizer.accumulation == 4
    assert cfg.optimizer.clip_norm == 10


def test_the_switches_are_those_that_are_read():
    assert set(re.findall(r"`(LEROBOT_EXT_\w+)=off`", TEXT)) == set(SWITCHES)
    assert {value for name, value in vars(hook).items() if name.endswith("_SWITCH")} == set(SWITCHES)


def test_the_forms_of_the_presets_are_as_listed():
    from lerobot.configs.policies import PreTrainedConfig
    from lerobot.policies import factory  # noqa: F401 - registers the stock policies

    from lerobot_ext.training.config_accumulation import _FORMS

    others = {
        "diffusion": "adam",
        "vqbet": "adam",
        "tdmpc": "adam",
        "multi_task_dit": "adam",
        "xvla": "xvla-adamw",
    }
    looked_at = 0
    for name, cls in PreTrainedConfig.get_known_choices().items():
        if not cls.__module__.startswith("lerobot.policies."):
            continue
        try:
            preset = cls(device="cpu").get_optimizer_preset()
        except (ImportError, ValueError, TypeError, AttributeError, NotImplementedError, OSError):
            continue  # needs a package, a field of its own, or a file of the Hub
        looked_at += 1
        assert (type(preset) in _FORMS) == (name != "gaussian_actor"), name
        if name != "gaussian_actor":
            assert preset.type == others.get(name, "adamw"), name
    assert looked_at >= 8


@pytest.mark.parametrize("switch", sorted(SWITCHES))
def test_a_switch_that_says_neither_is_refused(switch, monkeypatch):
    monkeypatch.setenv(switch, "perhaps")
    with pytest.raises(ValueError, match=switch):
        SWITCHES[switch]()


def test_a_process_that_is_no_trainer_gets_nothing(monkeypatch):
    monkeypatch.setattr(hook, "training_script", lambda: None)
    for part in (
        hook.record_metrics,
        hook.show_time_left,
        hook.accumulate_gradients,
        hook.point_without_links,
        hook.record_memory_peaks,
    ):
        part()
    from lerobot_ext.training import loop

    assert not loop._observers
