# SPDX-License-Identifier: Apache-2.0
"""What robots and teleoperators have in common: a name, features, a calibration file."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lerobot_ext.testing.contract import broken, rule
from lerobot_ext.testing.contracts.device import DeviceContract


class CalibratedContract(DeviceContract):
    """Rules about names and calibration files."""

    def connect(self, device: Any) -> None:
        """Connect without calibrating: that would ask a person to move the device."""
        device.connect(calibrate=False)

    @rule(
        remedy="set class attributes `name` (used as a folder's name) and `config_class`",
        needs=["factory-builds-it"],
    )
    def test_names_are_set(self) -> None:
        """The class has a `name` fit for a folder, and `config_class` fits the config."""
        device = self.make_device()
        name = getattr(type(device), "name", None)
        if not isinstance(name, str) or not name or not name.replace("_", "a").replace("-", "a").isalnum():
            broken(f"`{type(device).__name__}.name` is {name!r}")
        config_class = getattr(type(device), "config_class", None)
        if not isinstance(config_class, type) or not isinstance(self.make_config(), config_class):
            broken(f"`{type(device).__name__}.config_class` is {config_class!r}")

    @rule(
        remedy="call `super().__init__(config)` first, and load and save through `calibration_fpath`",
        needs=["factory-builds-it"],
    )
    def test_calibration_file_follows_the_id(self) -> None:
        """The calibration is kept in `calibration_dir/ID.json`, found again there, and belongs to its id."""
        from lerobot.motors import MotorCalibration

        folder = self.new_folder()
        config = replace(self.make_config(), id="one", calibration_dir=folder)
        device = self.build(config)
        if getattr(device, "calibration_fpath", None) != folder / "one.json":
            path = getattr(device, "calibration_fpath", "missing")
            broken(f"with id 'one' and calibration_dir {folder}, `calibration_fpath` is {path}")
        if device.id != "one":
            broken(f"`id` is {device.id!r} instead of 'one'")
        kept = {"joint": MotorCalibration(id=1, drive_mode=0, homing_offset=7, range_min=1, range_max=9)}
        device.calibration = kept
        device._save_calibration()
        if self.build(config).calibration != kept:
            broken(f"a saved calibration comes back as {self.build(config).calibration}")
        if self.build(replace(config, id="two")).calibration:
            broken("another id gets the same calibration")

    def _check_features(self, where: str, features: Any, prefix: str) -> None:
        """Break the rule unless every feature would get into a dataset."""
        from lerobot.utils.feature_utils import hw_to_dataset_features

        if not isinstance(features, Mapping):
            broken(f"`{where}` is a {type(features).__name__}, not a dict")
        made = hw_to_dataset_features(dict(features), prefix)
        kept = {
            name
            for key, feature in made.items()
            for name in (
                [key.removeprefix(f"{prefix}.images.")]
                if feature["dtype"] in ("image", "video")
                else feature["names"]
            )
        }
        for name, kind in features.items():
            if name not in kept:
                broken(f"`{where}[{name!r}]` is {kind!r}: LeRobot leaves it out of every dataset")
            if isinstance(kind, tuple) and (len(kind) != 3 or not all(isinstance(n, int) for n in kind)):
                broken(f"`{where}[{name!r}]` is {kind!r}, not (height, width, channels)")
