# SPDX-License-Identifier: Apache-2.0
"""Code blocks of the documentation, and the command lines in them.

A comment before a block says what the tests do with it:

    <!-- run -->              its commands are executed, in order, with all other such blocks of the page
    <!-- run: background -->  its one command keeps running until the page's last command has ended
    <!-- shown: REASON -->    it is neither executed nor parsed, because of REASON

A block without one is parsed: each command has to be one that `doc_commands` can check.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SHELL: Final = ("bash", "sh", "powershell")

_BLOCK: Final = re.compile(
    r"^```(?P<lang>\w*)\n(?P<fenced>.*?)^```[^\S\n]*$|(?<=\n\n)(?P<indented>(?: {4}[^\n]*\n|\n(?= {4}))+)",
    re.DOTALL | re.MULTILINE,
)
_MARK: Final = re.compile(r"<!-- (run|shown)(?:: ([^>]*?))? -->\s*\Z")
_ASSIGNMENT: Final = re.compile(r"[A-Z][A-Z0-9_]*=")


@dataclass(frozen=True)
class Block:
    """A code block of a page.

    Args:
        page (`str`): Its file, relative to the repository.
        line (`int`): Where its first line of code stands.
        lang (`str`): The fence's word; empty for none, and for an indented block.
        text (`str`): The code.
        mark (`str`, *optional*): `run` or `shown`; empty for a block that is parsed.
        note (`str`, *optional*): What the mark says after its colon.
    """

    page: str
    line: int
    lang: str
    text: str
    mark: str = ""
    note: str = ""

    @property
    def place(self) -> str:
        """`docs/koch.md:41`, to find it."""
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Every page that users read: READMEs, `docs/`, and their translations."""
    found = [ROOT / "README.md", *ROOT.glob("README.*.md"), *sorted((ROOT / "docs").glob("*.md"))]
    found.append(ROOT / "docs" / "results" / "README.md")
    for folder in ("policies", "robots", "processors"):
        found += sorted(ROOT.glob(f"{folder}/*/README*.md")) + sorted(
            ROOT.glob(f"{folder}/*/src/**/README.md")
        )
    return found


def blocks_of(page: Path) -> list[Block]:
    """The code blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix()
    found = []
    for match in _BLOCK.finditer(text):
        fenced = match["fenced"] is not None
        code = match["fenced"] if fenced else re.sub(r"^ {4}", "", match["indented"], flags=re.MULTILINE)
        mark = _MARK.search(text[: match.start()])
        found.append(
            Block(
                page=name,
                line=text.count("\n", 0, match.start()) + 1 + fenced,
                lang=match["lang"] or "",
                text=code,
                mark=mark[1] if mark else "",
                note=(mark[2] or "") if mark else "",
            )
        )
    return found


def prose_of(page: Path) -> str:
    """A page without its code blocks."""
    return _BLOCK.sub("\n", page.read_text(encoding="utf-8"))


def spans_of(page: Path) -> Iterator[str]:
    """Inline code of a page."""
    for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose_of(page)):
        yield " ".join(span.split())


def commands_of(text: str) -> list[list[str]]:
    r"""The words of each command in shell code.

    Comments are left out, `\` joins lines; `&`, `;`, `|` and line ends separate; quotes may hold line ends.
    """
    found = [shlex.split(part, comments=True) for part in _split(text.replace("\\\n", " "))]
    return [words for words in found if words]


def _split(text: str) -> Iterator[str]:
    """Cut shell code at what separates commands, outside quotes and comments."""
    quote, start, at = "", 0, 0
    while at < len(text):
        char = text[at]
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "#" and (at == 0 or text[at - 1] in " \n"):
            end = text.find("\n", at)
            text = text[:at] + (text[end:] if end >= 0 else "")
            continue
        elif char in "\n;|&":
            yield text[start:at]
            start = at + 1
        at += 1
    yield text[start:]


def without_prefixes(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Environment assignments before a command, and the command without `uv run`."""
    environment = {}
    while words and _ASSIGNMENT.match(words[0]):
        name, _, value = words[0].partition("=")
        environment[name], words = value, words[1:]
    if words[:2] == ["uv", "run"]:
        words = words[2:]
    return environment, words
