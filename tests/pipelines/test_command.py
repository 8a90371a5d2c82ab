# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext pipeline`, in this process: what it shows, refuses, times and adds."""

import json

import pytest
import toy_devices  # noqa: F401 - registers `toy_robot`
from hub_push_parts import tiny_training
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from step_files import step, write, write_hand

from lerobot_ext.cli.main import main

ROBOT = "--robot.type=toy_robot"


@pytest.fixture
def pipeline(capsys):
    """Runs the command; gives the exit code and what it said."""

    def run(*words):
        code = main(["pipeline", *map(str, words)])
        said = capsys.readouterr()
        return code, json.loads(said.out) if "--json" in words else said.out + said.err

    return run


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "ckpt"
    return tiny_training.train(folder.parent).save(folder)


@pytest.fixture
def dataset(tmp_path):
    """A recording of the toy robot in its own space, without frames."""
    names = {"observation.state": ["arm.pos", "claw.pos"], "action": ["arm.pos", "claw.pos"]}
    features = {name: {"dtype": "float32", "shape": (2,), "names": one} for name, one in names.items()}
    features["observation.images.eye"] = {
        "dtype": "image",
        "shape": (4, 6, 3),
        "names": ["height", "width", "channels"],
    }
    LeRobotDatasetMetadata.create("user/toy", 10, features, root=tmp_path / "data", use_videos=False)
    return f"--dataset.root={tmp_path / 'data'}"


def test_show_tells_features_in_and_out(pipeline, tmp_path):
    code, said = pipeline("show", write_hand(tmp_path / "p.json"), ROBOT, "--json")
    assert code == 0, said
    teleop, robot, observation = said["pipelines"]
    assert teleop["steps"][0]["before"].keys() >= {"action arm.pos", "action claw.pos"}
    assert robot["steps"][0]["before"]["action hand.x.pos"] == "number"
    assert robot["steps"][0]["after"].keys() >= {"action arm.pos", "action claw.pos"}
    assert observation["steps"][0]["before"]["eye"] == "(4, 6, 3)"
    assert observation["steps"][0]["after"]["eye"] == "(2, 3, 3)"


def test_show_without_a_robot_lists_the_steps_and_says_so(pipeline, tmp_path):
    code, said = pipeline("show", write_hand(tmp_path / "p.json"))
    assert code == 0
    assert "JointsToHand" in said
    assert "no robot was named" in said


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ({"robot_action": [step("device_procesor")]}, "did you mean 'device_processor'"),
        ({"robot_action": [step("Scale", scal=1)]}, "did you mean 'scale'"),
        ({"teleop_action": [step("JointsToHand")]}, "add `robot_action`, the way back"),
        ({"robot_action": [step("Fail")]}, "on a made-up frame"),
        ({"robot_action": [step("Fail", how="nan")]}, "no command"),
        ({"robot_observation": [step("WiderState")]}, "does not take what comes to it: KeyError"),
        ({"robot_observation": [step("Lie")]}, "eye is announced as"),
        ({"robot_action": [step("Scale")], "policy_preprocessor": []}, "make two files"),
    ],
)
def test_check_refuses_what_cannot_work(pipeline, tmp_path, steps, says):
    code, said = pipeline("check", write(tmp_path / "p.json", **steps), ROBOT)
    assert code == 1
    assert says in said, said


def test_check_passes_what_works_and_notes_what_may_surprise(pipeline, tmp_path):
    code, said = pipeline("check", write_hand(tmp_path / "p.json"), ROBOT)
    assert code == 0, said
    assert "nothing wrong" in said
    path = write(tmp_path / "q.json", teleop_action=[step("Scale", scale=0.5)])
    code, said = pipeline("check", path, ROBOT)
    assert code == 0
    assert "does not give back what `teleop_action` took" in said


def test_check_compares_with_a_dataset_and_a_policy(pipeline, tmp_path, dataset, checkpoint):
    same = write(tmp_path / "same.json", robot_action=[step("Scale")])
    assert pipeline("check", same, ROBOT, dataset)[0] == 0
    code, said = pipeline("check", write_hand(tmp_path / "p.json"), ROBOT, dataset)
    assert code == 1
    assert "action is (2,) of hand.x.pos, hand.y.pos, in the dataset (2,) of arm.pos, claw.pos" in said
    code, said = pipeline("check", same, ROBOT, f"--policy.path={checkpoint}")
    assert code == 1
    assert "observation.state is (2,) of the robot, (3,) of the policy" in said
    assert "the policy has observation.environment_state" in said


def test_check_of_steps_for_a_policy(pipeline, tmp_path, checkpoint, dataset):
    path = write(tmp_path / "p.json", policy_preprocessor=[step("Offset")])
    assert pipeline("check", path, f"--policy.path={checkpoint}")[0] == 0
    code, said = pipeline("check", path, dataset)
    assert code == 1  # three numbers for a state of two
    assert "on a made-up frame" in said
    code, said = pipeline("check", write(path, policy_preprocessor=[step("RenamePictures")]), dataset)
    assert code == 1
    assert "rename with `--rename_map`" in said


def test_check_of_a_checkpoint_finds_a_normaliser_without_statistics(pipeline, checkpoint, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(checkpoint, tmp_path / "ckpt")
    assert pipeline("check", folder)[0] == 0
    file = folder / "policy_preprocessor_step_3_normalizer_processor.safetensors"
    save_file({k: v for k, v in load_file(file).items() if not k.startswith("observation.state")}, file)
    code, said = pipeline("check", folder)
    assert code == 1
    assert "normalizer_processor has no statistics of observation.state" in said


def test_bench_times_every_step(pipeline, tmp_path, checkpoint):
    code, said = pipeline("bench", write_hand(tmp_path / "p.json"), ROBOT, "--frames=20", "--json")
    assert code == 0
    for one in said["pipelines"]:
        assert 0 < one["steps"][0]["us_p50"] <= one["us_p99"]
    assert "µs a frame" in pipeline("bench", tmp_path / "p.json", ROBOT, "--frames=20")[1]
    code, said = pipeline("bench", checkpoint, "--frames=20", "--json")
    assert [len(one["steps"]) for one in said["pipelines"]] == [4, 2]


def test_bench_needs_features(pipeline, tmp_path):
    code, said = pipeline("bench", write_hand(tmp_path / "p.json"))
    assert code != 0
    assert "name a robot, a checkpoint or a dataset" in said


def test_add_says_what_it_did(pipeline, tmp_path, checkpoint):
    path = write(tmp_path / "p.json", policy_preprocessor=[step("Offset")])
    words = ["add", f"--policy.path={checkpoint}", f"--steps={path}", f"--out={tmp_path / 'new'}"]
    code, said = pipeline(*words, "--dry-run", "--json")
    assert code == 0
    assert said["placed"]["policy_preprocessor"]["places"] == [3]
    assert not (tmp_path / "new").exists()
    code, said = pipeline(*words)
    assert code == 0
    assert "Offset at 3" in said
    assert (tmp_path / "new" / "config.json").is_file()
    assert "Offset" in pipeline("show", tmp_path / "new")[1]


def test_add_refuses_in_one_line(pipeline, tmp_path, checkpoint):
    code, said = pipeline("add", f"--policy.path={checkpoint}")
    assert code != 0
    assert "--steps=FILE" in said
    path = write(tmp_path / "p.json", policy_preprocessor=[step("device_processor")])
    code, said = pipeline("add", f"--policy.path={checkpoint}", f"--steps={path}")
    assert code != 0
    assert "Traceback" not in said
    assert "would be replaced at the next evaluation" in said
