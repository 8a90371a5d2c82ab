# SPDX-License-Identifier: Apache-2.0
"""Depth maps of the Koch's cameras: their geometry, and their way to a policy from datasets and episodes."""

import math
import re
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch
from draccus.utils import DecodingError
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.envs.factory import make_env, make_env_pre_post_processors
from lerobot.envs.utils import env_to_policy_features, preprocess_observation
from lerobot.policies.factory import make_policy, make_pre_post_processors
from lerobot.scripts.lerobot_eval import rollout
from lerobot.utils.feature_utils import dataset_to_policy_features
from lerobot_env_koch import KochEnvConfig
from lerobot_env_koch.demos.recorder import DemoOptions, record_demos
from lerobot_env_koch.depth import DepthCamera, pixel_rays, to_millimetres
from lerobot_env_koch.environment import KochEnv
from lerobot_env_koch.physics import KochWorld
from lerobot_policy_act_plus import ActPlusConfig

from lerobot_ext.online_rl.collecting import _recorded
from lerobot_ext.online_rl.episode import Episode
from lerobot_ext.online_rl.replay import _tensor
from lerobot_ext.online_rl.replay_dataset import ReplayDataset

TABLE = """<mujoco><worldbody>
  <camera name="down" pos="0 0 {height}" fovy="60"/>
  <geom name="table" type="box" size="{half} {half} 0.01" pos="0 0 -0.01"/>
  <geom name="cube" type="box" size="0.05 0.05 0.012" pos="0.1 0.1 0.012"/>
</worldbody></mujoco>"""

SMALL = {
    "device": "cpu",
    "chunk_size": 4,
    "n_action_steps": 4,
    "dim_model": 32,
    "n_heads": 2,
    "dim_feedforward": 32,
    "n_encoder_layers": 1,
    "use_vae": False,
    "pretrained_backbone_weights": None,
}
MAPS = ("observation.images.top_depth", "observation.images.wrist_depth")


def looking_down(height: float, half: float = 5.0) -> np.ndarray:
    model = mujoco.MjModel.from_xml_string(TABLE.format(height=height, half=half))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return DepthCamera(model, "down", 40, 60).measure(data)


def test_a_plane_is_everywhere_as_deep_and_a_cube_on_it_nearer_by_its_height() -> None:
    depth = looking_down(0.5)
    assert depth.shape == (40, 60)
    assert depth.dtype == np.uint16
    # In the corners the rays are 0.66 m long: what counts is the way along the axis.
    assert (depth[0] == 500).all()
    assert (depth[:, 0] == 500).all()
    assert (depth.min(), depth.max()) == (476, 500)
    # The focal length is 20 / tan(30°) = 34.6 pixels: of the cube's top, 0.476 m away, those from 3.6 to 10.9
    # right of the middle and above it. Its inner sides, half seen, lie between top and table.
    rows, columns = np.nonzero(depth == 476)
    assert (rows.min(), rows.max()) == (20 - 11, 20 - 5)
    assert (columns.min(), columns.max()) == (30 + 4, 30 + 10)


def test_what_is_too_far_too_near_or_not_there_was_not_measured() -> None:
    assert not looking_down(3.0).any()
    assert not (looking_down(0.02, half=0.04) == 20).any()
    small = looking_down(0.5, half=0.1)
    assert small[20, 30] == 500
    assert small[0, 0] == small[-1, -1] == 0
    assert to_millimetres(np.array([-1.0, 0.029, 0.03, 0.0304, 2.0, 2.1])).tolist() == [0, 0, 30, 30, 2000, 0]


def test_rays_go_through_the_middle_of_square_pixels() -> None:
    rays = pixel_rays(math.pi / 2, 2, 4).reshape(2, 4, 3)  # focal length: 1 pixel
    np.testing.assert_allclose(rays[0, 0], np.array([-1.5, 0.5, -1]) / math.sqrt(3.5))
    np.testing.assert_allclose(rays[1, 3], np.array([1.5, -0.5, -1]) / math.sqrt(3.5))


@pytest.mark.parametrize("camera", ["top", "wrist"])
def test_maps_cover_the_pictures_pixel_by_pixel(camera: str) -> None:
    world = KochWorld(renderer="painter")
    world.reset("lift", np.random.default_rng(0))
    world.place_cube([0.0, 0.15, 0.012])
    mujoco.mj_forward(world.model, world.data)
    red, green, blue = np.moveaxis(world.render(camera, 384, 512).astype(int), -1, 0)
    there = world.depth(camera, 384, 512)
    world.place_cube([0.0, 0.15, -1.0])
    mujoco.mj_forward(world.model, world.data)
    nearer = there != world.depth(camera, 384, 512)
    painted = (red > green + 40) & (red > blue + 40)
    # The painter's outlines are half a pixel wider.
    assert (nearer & painted).sum() > 0.98 * nearer.sum() > 500
    assert (nearer & painted).sum() > 0.85 * painted.sum()
    assert np.abs(np.argwhere(nearer).mean(0) - np.argwhere(painted).mean(0)).max() < 0.5


def test_maps_are_the_same_for_the_same_state_and_need_no_renderer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KochWorld, "_frames", lambda world: pytest.fail("drew"))
    first, second = KochWorld(), KochWorld()
    np.testing.assert_array_equal(first.depth("wrist", 32, 48), second.depth("wrist", 32, 48))
    with pytest.raises(ValueError, match="`camera` is 'side'; the bench has top, wrist"):
        first.depth("side", 32, 32)


@pytest.mark.parametrize("obs", ["state", "pixels", "state_pixels"])
def test_without_the_option_nothing_is_there(obs: str) -> None:
    assert not any("depth" in key for key in KochEnvConfig(obs=obs, renderer="painter").features)
    env = KochEnv(obs=obs, renderer="painter", image_size=(16, 16))
    assert set(env.observation_space) == set(env.reset(seed=0)[0])
    assert not any("depth" in key for key in env.observation_space)


def test_depth_without_cameras_is_refused(tmp_path: Path) -> None:
    message = (
        "`depth` is true, but `obs` is 'state', which has no cameras; choose `obs` pixels or state_pixels"
    )
    with pytest.raises(DecodingError, match=re.escape(message)):
        KochEnvConfig(depth=True)
    with pytest.raises(ValueError, match=re.escape(message)):
        KochEnv(depth=True)
    with pytest.raises(
        ValueError, match=re.escape("`depth` is true, but `images` is 'none'; record the cam")
    ):
        DemoOptions("local/koch_reach", tmp_path / "demos", depth=True)


@pytest.mark.parametrize("images", ["image", "video"])
@pytest.mark.parametrize("depth_fusion", ["early", "cross"])
def test_a_policy_sees_in_an_episode_what_it_saw_in_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: str, depth_fusion: str
) -> None:
    seen = []
    observe = KochEnv._observe
    monkeypatch.setattr(KochEnv, "_observe", lambda env: seen.append(observe(env)) or seen[-1])
    options = DemoOptions(
        "local/koch_reach", tmp_path / "demos", "reach", 1, images=images, image_size=64, depth=True
    )
    frames = record_demos(options).frames
    dataset = LeRobotDataset(options.repo_id, root=options.root, video_backend="pyav")
    assert dataset.meta.depth_keys == list(MAPS)
    assert len(dataset) == frames == len(seen) - 1
    features = dataset_to_policy_features(dataset.features)
    config = ActPlusConfig(**SMALL, depth_fusion=depth_fusion)
    policy = make_policy(config, ds_meta=dataset.meta).eval()
    before, after = make_pre_post_processors(config, dataset_stats=dataset.meta.stats)
    trained = before(next(iter(torch.utils.data.DataLoader(dataset, batch_size=frames))))
    vector = {
        key: {name: np.stack([each[key][name] for each in seen[:-1]]) for name in value}
        if isinstance(value, dict)
        else np.stack([each[key] for each in seen[:-1]])
        for key, value in seen[0].items()
    }
    met = before(preprocess_observation(vector))
    for key in config.input_features:
        if images == "image" or "images" not in key or key in MAPS:
            assert torch.equal(trained[key], met[key]), key
    for key in MAPS:
        assert met[key].shape == (frames, 1, 64, 64)
        assert abs(float(met[key].mean())) < 0.1  # of what was measured in millimetres
        assert 0.5 < float(met[key].std()) < 2
    # The stock evaluation builds the same inputs, and plays.
    env_config = KochEnvConfig(
        task="reach", obs="state_pixels", image_height=64, image_width=64, renderer="painter", depth=True,
        episode_length=4,
    )  # fmt: skip
    declared = env_to_policy_features(env_config)
    assert {key: declared[key] for key in config.input_features} == {
        key: features[key] for key in config.input_features
    }
    env = make_env(env_config, n_envs=2)["koch"][0]
    given = []
    select = policy.select_action
    monkeypatch.setattr(policy, "select_action", lambda batch: given.append(dict(batch)) or select(batch))
    try:
        around = make_env_pre_post_processors(env_config, config)
        rollout(env, policy, *around, before, after, seeds=[0, 1])
    finally:
        env.close()
    assert all(given[0][key].shape == (2, 1, 64, 64) for key in MAPS)
    assert all(0.3 < float(given[0][key].std()) < 3 for key in MAPS)


def test_collected_maps_stay_maps(tmp_path: Path) -> None:
    env = KochEnv(obs="pixels", depth=True, image_size=(16, 24), renderer="painter")
    observation, _ = env.reset(seed=0)
    # As gymnasium's vector environments give it
    many = {
        "agent_pos": observation["agent_pos"][None],
        "pixels": {name: picture[None] for name, picture in observation["pixels"].items()},
        **{name: value[None] for name, value in observation.items() if name.startswith("images.")},
    }
    seen = preprocess_observation(many)
    kept = _recorded(seen)
    np.testing.assert_array_equal(kept[MAPS[0]][0, ..., 0], observation["images.top_depth"][0])
    assert kept[MAPS[0]].dtype == np.uint16
    assert kept["observation.images.top"].dtype == np.uint8
    columns = {key: np.repeat(value, 3, axis=0) for key, value in kept.items()}
    ends = np.array([False, False, True])
    columns |= {
        "action": np.zeros((3, 6), np.float32),
        "next.reward": ends.astype(np.float32),
        "next.done": ends,
        "next.truncated": ~ends & ends,
        "next.success": ends,
    }
    disk = ReplayDataset(tmp_path / "replay", "online/replay", 30)
    disk.save(Episode(columns, ["lift"] * 3))
    disk.close()
    [read] = disk.load()
    dataset = LeRobotDataset("online/replay", root=tmp_path / "replay", video_backend="pyav")
    assert dataset.meta.depth_keys == list(MAPS)
    for key in MAPS:
        np.testing.assert_array_equal(read.columns[key], columns[key])
        assert torch.equal(_tensor(read.columns[key])[0], seen[key][0])
        assert torch.equal(dataset[0][key], seen[key][0])


def test_maps_in_metres_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"`observation\.images\.top_depth` has one channel, and values from 0"
    ):
        _recorded({"observation.images.top_depth": torch.full((1, 1, 8, 8), 0.4)})
