# SPDX-License-Identifier: Apache-2.0
"""A training on smaller pictures declares their size, and its checkpoint brings a robot's to it."""

import logging
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature
from lerobot.processor import (
    NormalizerProcessorStep,
    PolicyProcessorPipeline,
    RenameObservationsProcessorStep,
)
from lerobot.processor.hil_processor import ImageCropResizeProcessorStep

from lerobot_ext.data.pool import size
from lerobot_ext.data.pool.budget import size_of_backend
from lerobot_ext.training.script import MODULE

TOP = "observation.images.top"


def normalizer() -> NormalizerProcessorStep:
    features = {TOP: PolicyFeature(FeatureType.VISUAL, (3, 8, 8))}
    modes = {FeatureType.VISUAL: NormalizationMode.MEAN_STD}
    stats = {TOP: {"mean": torch.full((3, 1, 1), 0.5), "std": torch.ones(3, 1, 1)}}
    return NormalizerProcessorStep(features=features, norm_map=modes, stats=stats)


def pipeline(*steps) -> PolicyProcessorPipeline:
    return PolicyProcessorPipeline(steps=list(steps), name="policy_preprocessor")


def meta_of(
    *keys: str, depth: tuple[str, ...] = (), names=("height", "width", "channels"), shape=(48, 64, 3)
):
    features = {key: {"dtype": "video", "shape": shape, "names": list(names)} for key in keys}
    return SimpleNamespace(
        info=SimpleNamespace(features=features),
        video_keys=list(keys),
        camera_keys=list(keys),
        depth_keys=list(depth),
    )


@pytest.fixture
def training(monkeypatch):
    """A process that is a `lerobot-train`, as far as `size` looks."""
    script = ModuleType(MODULE)
    script.make_pre_post_processors = lambda: (
        pipeline(RenameObservationsProcessorStep(), normalizer()),
        "post",
    )
    monkeypatch.setitem(sys.modules, MODULE, script)
    yield script
    size.uninstall()


def test_the_declared_shapes_agree_with_the_pictures(training):
    rows_first = meta_of(TOP)
    size.declare(rows_first, (24, 32))
    assert rows_first.info.features[TOP]["shape"] == (24, 32, 3)
    channels_first = meta_of(TOP, names=("channels", "height", "width"), shape=(3, 48, 64))
    size.declare(channels_first, (24, 32))
    assert channels_first.info.features[TOP]["shape"] == (3, 24, 32)


def test_outside_a_training_nothing_is_declared(monkeypatch):
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    meta = meta_of(TOP)
    size.declare(meta, (24, 32))
    assert meta.info.features[TOP]["shape"] == (48, 64, 3)


def test_the_saved_preprocessor_resizes_by_a_step_of_lerobots(training, tmp_path):
    size.declare(meta_of(TOP), (24, 32))
    before, after = training.make_pre_post_processors()
    assert after == "post"
    assert [type(step).__name__ for step in before.steps] == [
        "RenameObservationsProcessorStep",
        "ResizeAsTrained",
        "NormalizerProcessorStep",
    ]
    before.save_pretrained(tmp_path)
    assert "image_crop_resize_processor" in (tmp_path / "policy_preprocessor.json").read_text()
    loaded = PolicyProcessorPipeline.from_pretrained(tmp_path, config_filename="policy_preprocessor.json")
    assert type(loaded.steps[1]) is ImageCropResizeProcessorStep
    assert loaded({TOP: torch.rand(1, 3, 48, 64)})[TOP].shape == (1, 3, 24, 32)


def test_padding_masks_and_trained_pictures_pass_unchanged(training):
    size.declare(meta_of(TOP), (24, 32))
    before, _ = training.make_pre_post_processors()
    mask = torch.tensor([[True, False]])
    pictures = torch.rand(1, 2, 3, 24, 32)
    batch = before({TOP: pictures, f"{TOP}_is_pad": mask})
    assert torch.equal(batch[f"{TOP}_is_pad"], mask)
    assert torch.equal(batch[TOP], pictures - 0.5)


def test_a_resumed_run_has_the_step_once():
    steps = [ImageCropResizeProcessorStep(resize_size=[24, 32]), normalizer()]
    kept = size.with_resize(steps, (24, 32))
    assert [type(step).__name__ for step in kept] == ["ResizeAsTrained", "NormalizerProcessorStep"]


def test_depth_cameras_are_said_to_be_left_out(training, caplog):
    size.declare(meta_of(TOP, "observation.images.depth", depth=("observation.images.depth",)), (24, 32))
    with caplog.at_level(logging.WARNING):
        before, _ = training.make_pre_post_processors()
    assert len(before.steps) == 2
    assert "observation.images.depth" in caplog.text


def test_names_of_backends():
    assert size_of_backend("pyav:240x320") == (240, 320)
    assert size_of_backend("pyav") is None
