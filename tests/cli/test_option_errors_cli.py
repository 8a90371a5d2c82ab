# SPDX-License-Identifier: Apache-2.0
"""An option that is refused, on the stock command line: the last line names field, value and remedy."""

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


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["--policy.type=hierarchical_difusion"],
            "--policy.type=hierarchical_difusion is no choice (is `hierarchical_diffusion` meant?)",
        ),
        (
            ["--policy.type=hierarchical_diffusion", "--policy.latency_budget=50"],
            "--policy.latency_budget is no option (is `--policy.latency_budget_ms` meant?)",
        ),
        (["--policy.type=act", "--dataset.root=none"], "--dataset.root=none: there is no such folder"),
    ],
    ids=["choice", "option", "folder"],
)
def test_the_last_line_says_what_is_mistyped(tmp_path, words, says):
    done = run(tmp_path, "lerobot-train", "--dataset.repo_id=me/none", "--policy.push_to_hub=false", *words)
    assert done.returncode in (1, 2)
    last = done.stderr.splitlines()[-1]
    assert says in last
    assert "Remedy: " in last


def test_the_errors_can_be_left_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("LEROBOT_EXT_OPTION_ERRORS", "off")
    words = ["--policy.type=act", "--policy.n_action_steps=200"]
    done = run(tmp_path, "lerobot-train", "--dataset.repo_id=me/none", *words)
    assert done.returncode == 1
    assert "Got 200" not in done.stderr
