# SPDX-License-Identifier: Apache-2.0
"""A value that a policy refuses, on the stock command line: the error names field, value and remedy."""

import pytest
from stock_cli import run

REFUSED = [
    (["act", "--policy.n_action_steps=200"], "Got 200 for `n_action_steps` and 100 for `chunk_size`"),
    (["act_plus", "--policy.chunk_size=-3"], "`chunk_size` (-3)"),
    (
        ["hierarchical_diffusion", "--policy.denoiser=unett"],
        "`denoiser` ('unett') is unknown; choose one of mlp, unet",
    ),
]


@pytest.mark.parametrize(("words", "says"), REFUSED, ids=[words[0] for words, _ in REFUSED])
def test_a_refused_value_is_named_with_its_field(tmp_path, words, says):
    done = run(
        tmp_path, "lerobot-train", "--dataset.repo_id=me/none", f"--policy.type={words[0]}", *words[1:]
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    error = done.stderr[done.stderr.index("error: ") :]
    assert says in error


def test_the_errors_can_be_left_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("LEROBOT_EXT_OPTION_ERRORS", "off")
    words = ["--policy.type=act", "--policy.n_action_steps=200"]
    done = run(tmp_path, "lerobot-train", "--dataset.repo_id=me/none", *words)
    assert done.returncode == 1
    assert "Got 200" not in done.stderr
