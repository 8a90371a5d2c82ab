# SPDX-License-Identifier: Apache-2.0
"""`lerobot-eval` of a stock policy in an environment that does not give what it was trained on."""

from hub_push_parts import tiny_training
from stock_cli import run

KOCH = {"observation.state": 6, "observation.environment_state": 7, "action": 6}


def test_the_last_line_says_what_was_given_and_what_decides_it(tmp_path):
    tiny_training.train(tmp_path, widths=KOCH).save(tmp_path / "policy")
    done = run(
        tmp_path, "lerobot-eval", f"--policy.path={tmp_path / 'policy'}", "--env.type=koch",
        "--env.obs=pixels", "--eval.n_episodes=1", "--eval.batch_size=1",
        f"--output_dir={tmp_path / 'eval'}", real=True,
    )  # fmt: skip
    assert done.returncode != 0
    failed, _, behind = done.stderr.rpartition("KeyError: 'observation.environment_state'")
    assert failed, done.stderr[-2000:]
    assert (
        "lerobot_ext: the policy takes observation.environment_state, and was given observation.images.top, "
        "observation.images.wrist, observation.state. Remedy: choose observations of the environment that "
        "hold it (of the simulated Koch `--env.obs=pixels` for cameras, `state` for poses;" in behind
    )
