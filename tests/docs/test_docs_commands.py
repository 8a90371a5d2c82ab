# SPDX-License-Identifier: Apache-2.0
"""Every command in README, `docs/` and the packages' READMEs is one that its program understands.

Blocks marked `<!-- run -->` are executed too, by `test_docs_run.py`.
"""

import ast
import json
import re
from pathlib import Path

import pytest
import yaml
from doc_blocks import ROOT, SHELL, Block, blocks_of, commands_of, pages, prose_of, spans_of
from doc_commands import RejectedError, check, check_span, is_known

PAGES = pages()
BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def problems(block: Block) -> list[str]:
    """What is wrong with the commands of a block; a block that holds output may hold other lines."""
    found = []
    all_are_commands = block.lang in SHELL
    for words in commands_of(block.text) if all_are_commands else _command_lines(block.text):
        try:
            check(words)
        except RejectedError as error:
            found.append(f"{block.place}: {' '.join(words)[:80]}\n    {error}")
    return found


def _command_lines(text: str) -> list[list[str]]:
    """Commands among other lines: those that begin like one."""
    found: list[list[str]] = []
    begun = ""
    for line in text.replace("\\\n", " ").splitlines():
        if not begun and not re.match(r"(lerobot-|uv run |pip install )", line):
            continue
        begun += line + "\n"
        try:
            found += [words for words in commands_of(begun) if is_known(words)]
        except ValueError:  # a quote is still open
            continue
        begun = ""
    assert not begun, f"a quote stays open: {begun}"
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_of_a_page_is_understood(page):
    found = [problem for block in blocks_of(page) if block.mark != "shown" for problem in problems(block)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_in_the_text_name_options_that_exist(page):
    found = []
    for span in spans_of(page):
        try:
            check_span(span)
        except RejectedError as error:
            found.append(f"{name(page)}: `{span}`\n    {error}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_code_that_is_no_command_can_be_read(page):
    for block in blocks_of(page):
        if block.mark == "shown":
            continue
        if block.lang == "python":
            ast.parse(block.text, block.place)
        elif block.lang == "json" and "…" not in block.text:
            json.loads(block.text)
        elif block.lang == "yaml":
            yaml.safe_load(block.text)
        else:
            assert block.lang in ("", "json", "text", "diff", "toml", *SHELL), f"{block.place}: {block.lang}"


_OURS = re.compile(r"\bpip install .*(?<![/\w])lerobot_")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_page_installs_ours_by_a_name_that_no_index_has(page):
    lines = [" ".join(words) for block in blocks_of(page) for words in _command_lines(block.text)]
    found = [line for line in [*lines, *spans_of(page)] if _OURS.search(line)]
    wanted = {"pip install lerobot_policy_lapo"} if page.name == "troubleshooting.md" else set()
    assert set(found) == wanted


def test_what_is_only_shown_says_why():
    for block in BLOCKS:
        assert block.mark != "shown" or len(block.note) > 10, block.place


def test_marks_stand_before_blocks():
    for page in PAGES:
        marks = len(re.findall(r"(?<!`)<!-- (?:run|shown)\b", page.read_text(encoding="utf-8")))
        assert marks == sum(bool(block.mark) for block in blocks_of(page)), name(page)


def test_the_index_leads_to_every_page_and_every_package():
    index = ROOT / "docs" / "README.md"
    linked = {
        (index.parent / target.partition("#")[0]).resolve()
        for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(index))
    }
    wanted = [page for page in PAGES if page != index and not page.name.startswith("README.zh")]
    missing = [name(page) for page in wanted if page != ROOT / "README.md" and page not in linked]
    assert not missing, f"docs/README.md has no link to {missing}"


@pytest.mark.parametrize("page", sorted(ROOT.glob("policies/*/README.md")), ids=name)
def test_a_policys_page_tells_what_its_users_ask(page):
    headings = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    for asked in ("How data flows", "Shapes", "Recipes", "Pitfalls"):
        assert asked in headings, f"{name(page)} has no {asked!r}"
    drawings = [block for block in blocks_of(page) if not block.lang and re.search("[─│►▼]", block.text)]
    assert drawings, "no picture of the data's way"
    assert "| field | default | meaning |" in prose_of(page)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", prose_of(page))
    for target in targets:
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        file = (page.parent / path) if path else page
        assert file.exists(), f"{name(page)}: {target}"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{name(page)}: {target}"


def anchors(page: Path) -> set[str]:
    """The places in a page that GitHub lets others point to."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE):
        kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
        found.add(kept.replace(" ", "-"))
    return found


@pytest.mark.parametrize(
    ("line", "because"),
    [
        ("lerobot-ext sim --no-such-option", "unrecognized"),
        ("lerobot-ext sim … --no-such-option", "has no --no-such-option"),
        ("lerobot-ext nothing", "no command"),
        ("lerobot-ext demos --episodes=many", "many"),
        ("lerobot-train --policy.type=act --dataset.repo_id=a/b --policy.chunk_sise=4", "chunk_sise"),
        ("lerobot-train --policy.type=akt --dataset.repo_id=a/b", "akt"),
        ("lerobot-rollout --policy.path=x --policy.no_field=1", "no_field"),
        ("lerobot-record --robot.type=koch_follower --robot.cameras='{a: {type: opencv, indx: 1}}' "
         "--teleop.type=koch_leader --dataset.repo_id=a/b --dataset.single_task=t --robot.port=p "
         "--teleop.port=q", "indx"),
        ("lerobot-dataset-viz --repo-id a/b --episode-index 0 --rot a", "--rot"),
        ("pip install lerobot_policy_nothing", "lerobot_policy_nothing"),
        ("pip install 'lerobot_ext[nothing]'", "nothing"),
        ("pip install . ./robots/lerobot_robot_nothing", "lerobot_robot_nothing"),
        ("pip install '.[nothing]'", "nothing"),
        ("pip install . './policies/lerobot_policy_act_plus[nothing]'", "nothing"),
        ("uv pip install ./robots/lerobot_robot_koch", "name `.`"),
        ("uv run python benchmarks/nothing.py", "not there"),
        ("uv run python benchmarks/startup.py --slowly", "--slowly"),
        ("uv run poe nothing", "nothing"),
        ("LEROBOT_EXT_NOTHING=off lerobot-train …", "LEROBOT_EXT_NOTHING"),
        ("frobnicate", "frobnicate"),
    ],
)  # fmt: skip
def test_a_wrong_command_is_found(line, because):
    [words] = commands_of(line)
    with pytest.raises(RejectedError, match=re.escape(because)):
        check(words)


def test_shell_code_is_cut_as_a_shell_does():
    text = "A=1 a 'x\ny' \\\n  b # no\n# nothing\nc && d; e | f\n"
    assert commands_of(text) == [["A=1", "a", "x\ny", "b"], ["c"], ["d"], ["e"], ["f"]]
