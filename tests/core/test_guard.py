# SPDX-License-Identifier: Apache-2.0
"""The guard's parts: which LeRobot is meant, what is installed beside it, what counts as broken."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from lerobot_ext.cli.command import CommandError
from lerobot_ext.cli.main import main
from lerobot_ext.guard.compare import compare, summary
from lerobot_ext.guard.environment import window_notes
from lerobot_ext.guard.facts import Fact, Findings, _Inside, _judged
from lerobot_ext.guard.plugins import Needs, installed_plugins, needs_of, pins
from lerobot_ext.guard.report import Report, as_json, as_markdown
from lerobot_ext.guard.target import parse_target

# --- Which LeRobot


@pytest.mark.parametrize(
    ("text", "requirement"),
    [
        ("0.7.0", "lerobot[a,b]==0.7.0"),
        ("0.7.0rc1", "lerobot[a,b]==0.7.0rc1"),
        ("lerobot==0.7.0rc1", "lerobot[a,b]==0.7.0rc1"),
        ("lerobot>=0.6.1", "lerobot[a,b]>=0.6.1"),
        (">=0.7", "lerobot[a,b]>=0.7"),
        ("lerobot", "lerobot[a,b]"),
        ("main", "lerobot[a,b] @ git+https://github.com/huggingface/lerobot@main"),
        ("git+https://example.org/fork@abc", "lerobot[a,b] @ git+https://example.org/fork@abc"),
        ("https://github.com/me/lerobot", "lerobot[a,b] @ git+https://github.com/me/lerobot"),
        ("https://example.org/lerobot-0.7.0-py3-none-any.whl", None),
        ("lerobot @ https://example.org/x.whl", "lerobot[a,b] @ https://example.org/x.whl"),
    ],
)
def test_a_lerobot_can_be_named_in_many_ways(text, requirement):
    made = parse_target(text).requirement({"b", "a"})
    assert made == (requirement or f"lerobot[a,b] @ {text}")
    assert Requirement(made).extras == {"a", "b"}


def test_a_folder_or_a_wheel_is_installed_from_where_it_is(tmp_path):
    (tmp_path / "pyproject.toml").write_text("")
    assert parse_target(str(tmp_path)).where == f" @ {tmp_path.as_uri()}"


@pytest.mark.parametrize("text", ["", "newest", "torch==2.0", "1.0 banana", "lerobot=0.7", "-e ."])
def test_what_names_no_lerobot_is_refused(text):
    with pytest.raises(CommandError) as refused:
        parse_target(text)
    assert "--against" in str(refused.value)
    assert refused.value.remedy


def test_a_path_that_cannot_be_installed_is_refused(tmp_path):
    with pytest.raises(CommandError, match="without a pyproject"):
        parse_target(str(tmp_path))
    file = tmp_path / "notes.txt"
    file.write_text("")
    with pytest.raises(CommandError, match="neither a wheel"):
        parse_target(str(file))


@given(
    st.text(max_size=20) | st.from_regex(r"(lerobot)?[=<>~!]{0,2}[0-9.]{0,6}(rc|a)?[0-9]?", fullmatch=True)
)
def test_any_text_gives_a_requirement_or_one_clear_line(text):
    try:
        target = parse_target(text)
    except CommandError as error:
        message = str(error)
    else:
        message = ""
        if " @ " not in target.where:
            assert Requirement(target.requirement({"x"})).name == "lerobot"
    assert "\n" not in message


# --- What is installed beside it


def test_the_core_and_required_plugins_come_along_and_lerobot_is_told_from_the_rest():
    needs = needs_of(["lerobot_env_koch"])
    assert [source.name for source in needs.sources] == ["lerobot_ext", "lerobot_env_koch"]
    assert all(source.folder is not None for source in needs.sources), "installed from folders here"
    assert {"dataset", "training", "evaluation"} <= needs.extras
    names = {Requirement(line).name for line in needs.others}
    assert {"mujoco", "pyzmq", "rich", "pytest"} <= names
    assert not {name for name in names if name.startswith("lerobot")}
    assert needs.windows["lerobot_env_koch"] == "<0.7,>=0.6.1"


def test_pins_keep_everything_but_lerobot_and_the_plugins():
    found = {Requirement(line).name for line in pins(["lerobot_ext", "lerobot_env_koch"])}
    assert "torch" in found
    assert not {"lerobot", "lerobot_ext", "lerobot_env_koch"} & found


def test_plugins_are_found_whatever_their_spelling():
    assert installed_plugins(["lerobot-env-koch"]) == ["lerobot_env_koch"]
    assert "lerobot_env_koch" in installed_plugins([])
    with pytest.raises(CommandError, match="no plugin 'lerobot_env_moon'"):
        installed_plugins(["lerobot_env_moon"])


def test_a_window_that_was_not_heeded_is_said():
    needs = Needs(windows={"ours": ">=0.6.1,<0.7", "theirs": ">=0.5"})
    assert window_notes(needs, "0.7.0rc1") == [
        "ours asks for lerobot>=0.6.1,<0.7; the guard installed it all the same"
    ]
    assert window_notes(needs, "0.6.2") == []


# --- What counts as broken


def findings(*facts: tuple[str, str, str], **versions: str) -> Findings:
    made = [Fact(origin, origin, rule, status, f"{rule} is {status}") for origin, rule, status in facts]
    return Findings(versions, made)


@pytest.mark.parametrize(
    ("was", "now", "where"),
    [
        ("holds", "broken", "broke"),
        ("skipped", "broken", "broke"),
        (None, "broken", "broke"),
        ("holds", None, "broke"),
        ("broken", "broken", "broken_in_both"),
        ("broken", "holds", "mended"),
        ("holds", "skipped", "no_longer_tried"),
        ("holds", "not reached", "follows"),
        ("skipped", "skipped", None),
        (None, "holds", None),
    ],
)
def test_each_change_is_told_as_what_it_is(was, now, where):
    before = findings(*([("plugin", "rule", was)] if was else []))
    after = findings(*([("plugin", "rule", now)] if now else []))
    told = as_json(Report("", [], before, after, compare(before, after)))
    lists = ("broke", "broken_in_both", "mended", "no_longer_tried", "follows")
    assert [name for name in lists if told[name]] == ([where] if where else [])
    assert told["ok"] == (where != "broke")


def test_what_is_gone_because_its_plugin_broke_is_no_news_of_its_own():
    before = findings(("a", "loads", "holds"), ("a", "acts", "holds"), ("b", "acts", "holds"))
    after = findings(("a", "loads", "broken"))
    told = compare(before, after)
    assert [(change.subject, change.rule) for change in told.broke] == [("a", "loads"), ("b", "acts")]
    assert [(change.subject, change.rule) for change in told.follows] == [("a", "acts")]


def test_versions_that_differ_are_told_and_the_rest_not():
    before = findings(lerobot="0.6.1", torch="2.11", ruff="1")
    after = findings(lerobot="0.7.0", torch="2.11", new="3")
    assert compare(before, after).versions == {"lerobot": ("0.6.1", "0.7.0"), "new": ("", "3")}


def test_the_summary_counts():
    before = findings(("a", "x", "holds"), ("a", "y", "holds"), ("a", "z", "broken"))
    after = findings(("a", "x", "broken"), ("a", "y", "holds"), ("a", "z", "broken"))
    told = summary(compare(before, after), "0.6.1", "0.7.0")
    assert told == "LeRobot 0.7.0 against 0.6.1: 1 thing breaks, 1 hold, 1 broken in both"


def test_the_markdown_report_keeps_its_tables_whole():
    before = findings(("a", "x", "holds"), lerobot="0.6.1")
    after = Findings({"lerobot": "0.7.0"}, [Fact("a", "a", "x", "broken", "one | two\nthree", "mend | it")])
    text = as_markdown(Report("0.7.0", ["a"], before, after, compare(before, after), ["said"]))
    assert "## LeRobot 0.7.0 against 0.6.1: 1 thing breaks, 0 hold" in text
    assert "| a: x | holds | broken | one \\| two three | mend \\| it |" in text
    assert "| lerobot | 0.6.1 | 0.7.0 |" in text
    assert text.endswith("- said\n")


# --- Asking another environment


@pytest.mark.parametrize(
    ("code", "report", "why"),
    [
        ("print('{\"a\": 1}')", {"a": 1}, ""),
        ("print('chatter'); print('[1]')", [1], ""),
        ("import json; print('chatter {'); print(json.dumps({'a': [1]}, indent=2))", {"a": [1]}, ""),
        ("import sys; sys.exit('no such thing')", None, "it ended with status 1: no such thing"),
        (
            "import sys; sys.exit('chatter\\nlerobot-ext: it is not here\\n  remedy: get it')",
            None,
            "it ended with status 1: it is not here",
        ),
        ("print('no json')", None, "it ended with status 0"),
        ("import time; time.sleep(60)", None, "it did not end within 1 s"),
    ],
)
def test_what_another_python_says_is_read_or_the_reason_told(code, report, why, tmp_path):
    assert _Inside(Path(sys.executable), tmp_path).run("-c", code, limit_s=1 if "sleep" in code else 60) == (
        report,
        why,
    )


TRACE = 'Traceback (most recent call last):\n  File "{}", line 3, in test\n    from lerobot.a import b\n{}'


@pytest.mark.parametrize(
    ("file", "found", "blames_the_kit"),
    [
        (
            "/site/lerobot_ext/testing/contracts/env.py",
            "ImportError: cannot import name 'b' from 'lerobot.a'",
            True,
        ),
        (
            "/site/lerobot_ext/testing/contracts/env.py",
            "ModuleNotFoundError: No module named 'lerobot.a'",
            True,
        ),
        ("/site/lerobot_robot_ant/ant.py", "ModuleNotFoundError: No module named 'lerobot.a'", False),
        ("/site/lerobot_ext/testing/contracts/env.py", "TypeError: Ant.reset() takes 1 argument", False),
        ("/site/lerobot_ext/testing/contracts/env.py", "ModuleNotFoundError: No module named 'spoon'", False),
    ],
)
def test_what_the_kit_itself_lacks_is_not_laid_at_the_plugins_door(file, found, blames_the_kit):
    outcome = {"trace": TRACE.format(file, found), "found": found, "remedy": "mend your plugin"}
    told, remedy = _judged(outcome)
    assert found in told
    assert (remedy == "mend your plugin") is not blames_the_kit
    assert told.startswith("the kit cannot try it") == blames_the_kit


# --- The command line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "neither is there"),
        (["--against", "0.6.1", "--python", sys.executable], "either --against, or --python"),
        (["--python", "/nowhere/python"], "--python /nowhere/python is not there"),
        (["--against", "0.6.1", "--baseline-python", "/nowhere"], "--baseline-python /nowhere"),
        (["--python", sys.executable, "--keep", "x"], "nothing to keep"),
        (["--against", "0.6.1", "--report", "/nowhere/a.md"], "its folder is not there"),
        (["--against", "0.6.1", "--timeout", "0"], "leaves no time"),
        (["--against", "newest"], "'newest' is no LeRobot"),
        (["moon", "--against", "0.6.1"], "no plugin 'moon' is installed"),
    ],
)
def test_senseless_options_are_refused_before_anything_is_installed(words, says, capsys):
    assert main(["guard", *words]) == 2
    assert says in capsys.readouterr().err


def test_a_folder_that_holds_something_is_not_used_as_the_environment(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert main(["guard", "--against", "0.6.1", "--keep", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_help_does_not_import_what_it_does_not_need():
    code = (
        "import sys; import lerobot_ext.guard.command; "
        "print([m for m in ('torch', 'lerobot', 'rich', 'packaging') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(said.replace("'", '"')) == []
