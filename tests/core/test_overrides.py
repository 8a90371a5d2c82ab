# SPDX-License-Identifier: Apache-2.0
"""Replacing a registered choice: subclasses only, the stock class stays, a lost override is noticed."""

from dataclasses import dataclass

import draccus
import pytest

from lerobot_ext import overrides


@pytest.fixture
def registry(monkeypatch):
    """A registry with one stock choice `arm`, and the stock class."""
    monkeypatch.setattr(overrides, "_overrides", {})

    @dataclass
    class Base(draccus.ChoiceRegistry):
        pass

    @Base.register_subclass("arm")
    @dataclass
    class Arm(Base):
        port: str = "x"

    Base.register_subclass("other", dataclass(type("Other", (Base,), {})))
    return Base, Arm


def subclass_of(arm: type) -> type:
    @dataclass
    class Ours(arm):
        num_read_retries: int = 3

    return Ours


def test_the_name_means_the_new_class_and_stock_stays_reachable(registry):
    base, arm = registry
    ours = subclass_of(arm)
    overrides.replace_choice(base, "arm", ours)
    assert base.get_choice_class("arm") is ours
    assert base.get_choice_class("arm_stock") is arm
    assert base.get_choice_name(arm) == "arm_stock"
    assert list(base.get_known_choices()) == ["arm", "other", "arm_stock"]


def test_encode_and_decode_use_the_name(registry):
    base, arm = registry
    ours = subclass_of(arm)
    overrides.replace_choice(base, "arm", ours)
    encoded = draccus.encode(ours(num_read_retries=7), base)
    assert encoded == {"type": "arm", "port": "x", "num_read_retries": 7}
    assert draccus.decode(base, encoded) == ours(num_read_retries=7)


def test_replacing_twice_with_the_same_class_changes_nothing(registry):
    base, arm = registry
    ours = subclass_of(arm)
    overrides.replace_choice(base, "arm", ours)
    overrides.replace_choice(base, "arm", ours)
    assert base.get_choice_class("arm_stock") is arm
    [override] = overrides.overrides()
    assert (override.name, override.new_cls, override.old_cls) == ("arm", ours, arm)
    assert overrides.check() == []


def test_a_class_that_is_no_subclass_is_refused_and_both_are_named(registry):
    base, _ = registry
    with pytest.raises(overrides.OverrideError, match=r"'arm'.*Arm.*Other.*not a subclass"):
        overrides.replace_choice(base, "arm", base.get_choice_class("other"))
    assert overrides.overrides() == []


def test_a_name_taken_by_another_plugin_is_named(registry):
    base, arm = registry
    foreign = type("Foreign", (base,), {"__module__": "foreign_plugin.config"})
    base.get_known_choices()["arm"] = foreign
    with pytest.raises(overrides.OverrideError, match="package 'foreign_plugin' took the name"):
        overrides.replace_choice(base, "arm", subclass_of(arm))


def test_a_stock_name_in_use_is_refused_before_anything_changes(registry):
    base, arm = registry
    base.get_known_choices()["arm_stock"] = base.get_choice_class("other")
    with pytest.raises(overrides.OverrideError, match="'arm_stock'"):
        overrides.replace_choice(base, "arm", subclass_of(arm))
    assert base.get_choice_class("arm") is arm


def test_an_unregistered_name_lists_the_known_ones(registry):
    base, arm = registry
    with pytest.raises(overrides.OverrideError, match=r"'hand'.*Known choices: arm, other"):
        overrides.replace_choice(base, "hand", subclass_of(arm))


def test_a_lost_override_is_found_with_its_culprit(registry):
    base, arm = registry
    overrides.replace_choice(base, "arm", subclass_of(arm))
    base.get_known_choices()["arm"] = type("Late", (arm,), {"__module__": "late_plugin"})
    [problem] = overrides.check()
    assert "late_plugin" in problem
    assert "uninstall" in problem


def test_a_second_override_on_top_of_ours_is_allowed_and_the_first_is_reported_lost(registry):
    base, arm = registry
    first = subclass_of(arm)
    second = subclass_of(first)
    overrides.replace_choice(base, "arm", first)
    overrides.replace_choice(base, "arm", second)
    assert base.get_choice_class("arm") is second
    assert base.get_choice_class("arm_stock") is arm


def test_a_draccus_that_hands_out_copies_is_refused(registry, monkeypatch):
    base, arm = registry
    monkeypatch.setattr(base, "get_known_choices", classmethod(lambda cls: dict(cls._choice_registry)))
    with pytest.raises(overrides.OverrideError, match="draccus>="):
        overrides.replace_choice(base, "arm", subclass_of(arm))


def test_lerobots_own_registry_takes_an_override(monkeypatch):
    """The sketch of the real use: a stock robot name, replaced and put back."""
    from lerobot.robots.config import RobotConfig
    from lerobot.robots.koch_follower import KochFollowerConfig

    known = RobotConfig.get_known_choices()
    before = dict(known)
    monkeypatch.setattr(overrides, "_overrides", {})
    try:
        # Another test may have loaded our plugin: begin with what LeRobot itself registers.
        stock = known["koch_follower"] = KochFollowerConfig
        known.pop("koch_follower_stock", None)
        ours = dataclass(kw_only=True)(type("OursConfig", (stock,), {}))
        overrides.replace_choice(RobotConfig, "koch_follower", ours)
        assert RobotConfig.get_choice_class("koch_follower") is ours
        assert RobotConfig.get_choice_class("koch_follower_stock") is KochFollowerConfig
        assert overrides.check() == []
    finally:
        known.clear()
        known.update(before)
