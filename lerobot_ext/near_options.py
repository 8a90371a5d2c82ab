# SPDX-License-Identifier: Apache-2.0
"""The nearest name for an option, or for a choice of one, that a parser does not know."""

from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches


def corrections(parser: ArgumentParser, words: Sequence[str]) -> Iterator[str]:
    """A sentence for each option among the words that is none, and for each value that is no choice.

    A name that begins as the unknown one does comes first: `--policy.latency_budget` means `…_ms`.

    Args:
        parser (`argparse.ArgumentParser`): That has all its options.
        words (`Sequence[str]`): Of the command line, options as `--name=value` or `--name value`.
    """
    known = parser._option_string_actions  # argparse has no public name for it
    for word, following in zip(words, [*words[1:], ""], strict=False):
        option, equals, value = word.partition("=")
        if not option.startswith("--") or option == "--":
            continue
        if option not in known:
            if parser.allow_abbrev and any(name.startswith(option) for name in known):
                continue
            yield f"{option} is no option{_meant(option, known)}"
            continue
        given, choices = value if equals else following, known[option].choices
        if choices is not None and given not in map(str, choices):
            yield f"{option}={given} is no choice{_meant(given, [*map(str, choices)])}"


def _meant(name: str, known: Iterable[str]) -> str:
    longer = sorted((other for other in known if other.startswith(name)), key=len)
    near = longer or get_close_matches(name, [*known], n=1, cutoff=0.7)
    return f" (is `{near[0]}` meant?)" if near else ""
