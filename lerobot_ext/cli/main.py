# SPDX-License-Identifier: Apache-2.0
"""Entry point of `lerobot-ext`: finds the commands that installed plugins contribute and runs one of them.

Every command, the core's own included, is an entry point of group `lerobot_ext.commands` that names a
`lerobot_ext.cli.Command`. Running one imports only that one, so a broken plugin costs its own command and no
other. Nothing here imports torch, LeRobot or rich: `lerobot-ext --help` answers at once.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import metadata

from lerobot_ext import __version__
from lerobot_ext.cli.command import Command, CommandError
from lerobot_ext.plugins import describe_error, remedy_for

GROUP = "lerobot_ext.commands"
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130

# Where a command comes from when it is not installed, so that the remedy can name the package.
KNOWN_PROVIDERS = {
    "sim": "lerobot_env_koch",
    "demos": "lerobot_env_koch",
    "relax": "lerobot_robot_koch",
    "quickstart": "lerobot_ext[quickstart]",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `lerobot-ext COMMAND …`.

    Args:
        argv (`Sequence[str]`, *optional*): The words after `lerobot-ext`; those of the process by default.

    Returns:
        The exit code: the command's own, 2 for what the user can mend, 130 when interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words)
    except CommandError as error:
        return _complain(str(error), error.remedy)
    except KeyboardInterrupt:
        sys.stderr.write("\nlerobot-ext: interrupted\n")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`lerobot-ext plugins | head`); Python would complain once more
        # at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _dispatch(words: list[str]) -> int:
    """Find the command that `words` asks for, parse its arguments and run it."""
    if not words or words[0] in ("-h", "--help", "help"):
        sys.stdout.write(_overview())
        return 0 if words else EXIT_USER_ERROR
    if words[0] in ("-V", "--version"):
        sys.stdout.write(f"lerobot-ext {__version__} (LeRobot {_lerobot_version()})\n")
        return 0
    command = load_command(words[0])
    parser = argparse.ArgumentParser(
        prog=f"lerobot-ext {command.name}",
        description=command.summary,
        epilog=f"example:\n  {command.example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.configure(parser)
    own, passed_on = _split_off(words[1:], command.pass_on)
    args = _parse(parser, own)
    if command.pass_on:
        args.passed_on = passed_on
    return command.run(args)


def _parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """The words by the parser; behind its complaint the nearest options to those that are none."""
    try:
        return parser.parse_args(words)
    except SystemExit as stop:
        if stop.code == EXIT_USER_ERROR:
            # Imported here because only this error needs it.
            from lerobot_ext.near_options import corrections

            for sentence in corrections(parser, words):
                sys.stderr.write(f"  remedy: {sentence}; `{parser.prog} --help` lists what there is\n")
        raise


def _split_off(words: list[str], prefixes: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The words of a command's own parser, and the options with one of `prefixes` as `--name=value`."""
    own, passed_on = [], []
    rest = iter(words)
    for word in rest:
        if not prefixes or not word.startswith(prefixes):
            own.append(word)
        elif "=" in word:
            passed_on.append(word)
        else:
            passed_on.append(f"{word}={next(rest, '')}")
    return own, passed_on


def command_entry_points() -> dict[str, metadata.EntryPoint]:
    """The installed commands by name, sorted.

    Of two commands with one name the core's wins, then the first distribution's; `lerobot-ext doctor` reports
    such a clash.
    """
    ranked = sorted(
        metadata.entry_points(group=GROUP),
        key=lambda entry: (entry.name, _provider(entry) != "lerobot_ext", _provider(entry)),
    )
    commands: dict[str, metadata.EntryPoint] = {}
    for entry in ranked:
        commands.setdefault(entry.name, entry)
    return commands


def load_command(name: str) -> Command:
    """Import the command called `name`.

    Args:
        name (`str`): What the user typed after `lerobot-ext`.

    Returns:
        The `Command` its entry point names.

    Raises:
        CommandError: There is no such command (the nearest one is named), or its entry point is broken.
    """
    known = command_entry_points()
    if name not in known:
        raise CommandError(f"there is no command {name!r}", _remedy_for_unknown(name, list(known)))
    return _load(known[name])


def _load(entry: metadata.EntryPoint) -> Command:
    """Import one entry point; every failure becomes a `CommandError` that names the distribution."""
    try:
        command = entry.load()
    except (Exception, SystemExit) as error:
        raise CommandError(
            f"command {entry.name!r} of {_provider(entry)} is broken: {describe_error(error)}",
            remedy_for(error, entry),
        ) from error
    if not isinstance(command, Command):
        raise CommandError(
            f"command {entry.name!r} of {_provider(entry)} is broken: `{entry.value}` is "
            f"{type(command).__name__}, not lerobot_ext.cli.Command",
            f"update {_provider(entry)} or uninstall it",
        )
    return command


def _overview() -> str:
    """The text of `lerobot-ext --help`: one line a command, broken ones included."""
    lines = []
    entries = command_entry_points()
    width = max((len(name) for name in entries), default=0)
    for name, entry in entries.items():
        try:
            summary = _load(entry).summary
        except CommandError as error:
            summary = f"(broken) {error}"
        lines.append(f"  {name:<{width}}  {summary}")
    return (
        "usage: lerobot-ext [--version] COMMAND …\n\n"
        "Commands of the installed lerobot_ext plugins; the stock lerobot-* commands need none of them.\n\n"
        + ("\n".join(lines) or "  (none is installed)")
        + "\n\n`lerobot-ext COMMAND --help` says what a command takes.\n"
    )


def _remedy_for_unknown(name: str, known: list[str]) -> str:
    """The package that brings `name`, or the nearest command, or how to list them all."""
    # Imported here because only this error needs them.
    from difflib import get_close_matches

    from lerobot_ext.installing import install_command

    if name in KNOWN_PROVIDERS:
        return f"install the plugin that brings it: `{install_command(KNOWN_PROVIDERS[name])}`"
    near = get_close_matches(name, [*known, *KNOWN_PROVIDERS], n=1)
    if near:
        return f"did you mean `lerobot-ext {near[0]}`?"
    return "`lerobot-ext --help` lists the commands"


def _complain(message: str, remedy: str) -> int:
    """Write an error as one line and its remedy as another; the exit code of a user's error."""
    sys.stderr.write(f"lerobot-ext: {message}\n")
    if remedy:
        sys.stderr.write(f"  remedy: {remedy}\n")
    return EXIT_USER_ERROR


def _provider(entry: metadata.EntryPoint) -> str:
    return entry.dist.name if entry.dist else "an unknown distribution"


def _lerobot_version() -> str:
    try:
        return metadata.version("lerobot")
    except metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(main())
