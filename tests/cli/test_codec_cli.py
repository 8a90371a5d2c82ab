# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext codec` as a user runs it."""

import json

import pytest
from stock_cli import run

from lerobot_ext.cli.main import main


@pytest.mark.slow
def test_codec_measures_and_prints_stock_flags(tmp_path):
    """A load that even a busy machine holds, with a store of its own."""
    words = [
        "--cameras",
        "1",
        "--size",
        "96x64",
        "--fps",
        "5",
        "--seconds",
        "1",
        "--vcodec",
        "h264",
        "--json",
    ]
    done = run(tmp_path, "lerobot-ext", "codec", *words, timeout=280)
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)
    assert found["ok"] == (done.returncode == 0)
    assert found["png"]["frames"] >= 4
    assert "x264" not in done.stderr
    if not found["ok"]:
        pytest.skip("this machine is too busy even for one small camera")
    assert "--dataset.rgb_encoder.vcodec=h264" in found["flags"]
    assert found["verified"]["dropped"] == 0
    assert {row["holds"] for row in found["candidates"]} <= {True, False}
    stored = json.loads((tmp_path / "lerobot_ext/recording_flags.json").read_text())
    (loads,) = stored["machines"].values()
    assert loads["1x96x64@5"]["flags"] == found["flags"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--size", "641x480"], "`width` (641) must be even"),
        (["--folder", "does-not-exist"], "--folder does-not-exist is no folder"),
        (["--vcodec", "mpeg2"], "--vcodec mpeg2 is none that can be tried"),
        (["--source", "does-not-exist.mp4"], "neither a video file nor the folder of a dataset"),
    ],
)
def test_wrong_usage_is_one_clear_line_and_code_2(words, said, capsys):
    assert main(["codec", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [["--size", "big"], ["--cameras", "0"], ["--seconds", "nan"], ["--headroom", "1"], ["--fps", "-1"]],
)
def test_arguments_that_mean_nothing_are_refused(words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["codec", *words])
    assert ended.value.code == 2
    assert words[0] in capsys.readouterr().err
