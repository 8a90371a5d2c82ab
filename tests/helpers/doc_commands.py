# SPDX-License-Identifier: Apache-2.0
"""Says what is wrong with a command line of the documentation, without executing it.

Known are LeRobot's commands (each option has to be a field of its configuration), `lerobot-ext` (its own
parsers), `pip install` (packages, folders and extras that exist), `uv run` of scripts and tests (files that
exist) and a few programs of others, which are believed.
"""

import argparse
import dataclasses
import importlib
import re
import sys
import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Final, get_type_hints
from unittest import mock

from doc_blocks import ROOT, commands_of, without_prefixes

CONFIGURED: Final = {
    "lerobot-calibrate": "calibrate",
    "lerobot-edit-dataset": "edit_dataset",
    "lerobot-eval": "eval_main",
    "lerobot-record": "record",
    "lerobot-replay": "replay",
    "lerobot-rollout": "rollout",
    "lerobot-setup-motors": "setup_motors",
    "lerobot-teleoperate": "teleoperate",
    "lerobot-train": "train",
}
"""LeRobot's commands with a draccus configuration, and the function that takes it."""

MADE: Final = ("calibrate", "record", "replay", "setup_motors", "teleoperate", "train")
"""Those whose configuration can be made without a checkpoint: their values are checked too."""

BELIEVED: Final = frozenset(
    {"cd", "export", "git", "hf", "kill", "openssl", "ssh", "sudo", "tensorboard", "chmod"}
)
"""Programs of others in our pages."""

LEROBOT: Final = ("lerobot-dataset-viz", "lerobot-find-cameras", "lerobot-find-port", "lerobot-info")
"""LeRobot's commands with a parser of their own, or none."""

_PLACEHOLDER: Final = re.compile(r"\.type=my_\w+$")
"""A type that the reader is about to write."""

_FOLDER: Final = re.compile(r"(?P<path>\.(?:/[\w/.]+)?)(?:\[(?P<extras>[\w,]+)\])?")
"""What pip takes as a folder below this one, with extras."""

TYPE_FIELDS: Final = ("path", "type", "discover_packages_path")


class RejectedError(Exception):
    """A command would not be understood; the message says why."""


def is_known(words: list[str]) -> bool:
    """Whether a line of an unmarked block is a command, and not something it printed."""
    _, rest = without_prefixes(words)
    return bool(rest) and (rest[0].startswith("lerobot-") or words[:2] == ["uv", "run"] or words[0] == "pip")


def check(words: list[str]) -> None:
    """Look at one command.

    Raises:
        RejectedError: It has an option, value, package or file that does not exist, or is an unknown program.
    """
    environment, rest = without_prefixes(words)
    for name in environment:
        _check_variable(name)
    if not rest:
        return
    program, options = rest[0], rest[1:]
    if program == "export":
        _check_variable(options[0].partition("=")[0])
    elif program == "lerobot-ext":
        _check_ours(options)
    elif program in CONFIGURED:
        _check_lerobots(program, options)
    elif program in LEROBOT:
        _check_parser_inside(program, options)
    elif program in ("pip", "uv"):
        _check_package_manager(program, options)
    elif program in ("python", "pytest", "poe", "ruff", "mypy"):
        _check_python(program, options)
    elif program not in BELIEVED:
        raise RejectedError(f"{program!r} is no command that the tests know")


def check_span(span: str) -> None:
    """Look at inline code that begins like a command: the options it names have to exist.

    Raises:
        RejectedError: One does not.
    """
    try:
        commands = commands_of(span)
    except ValueError:  # an apostrophe, a single quote: prose
        return
    for words in commands:
        _, rest = without_prefixes(words)
        if rest and (rest[0] == "lerobot-ext" or rest[0] in CONFIGURED):
            check([*rest, "…"])


def _vague(words: Iterable[str]) -> bool:
    """Whether something is left out, so that a command is no whole one."""
    return any("…" in word or "..." in word or "$(" in word or "<" in word for word in words)


# lerobot-ext


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser of one of our commands."""
    from lerobot_ext.cli.main import load_command

    parser = argparse.ArgumentParser(prog=f"lerobot-ext {name}", exit_on_error=False)
    load_command(name).configure(parser)
    return parser


def options_of(name: str) -> set[str]:
    """The options of one of our commands, but for its help."""
    return {option for action in parser_of(name)._actions for option in action.option_strings} - {
        "-h",
        "--help",
    }


def _check_ours(words: list[str]) -> None:
    from lerobot_ext.cli.command import CommandError
    from lerobot_ext.cli.main import _split_off, load_command

    if not words or words[0] in ("…", "COMMAND", "--help", "--version"):
        return
    try:
        command, parser = load_command(words[0]), parser_of(words[0])
    except CommandError as error:
        raise RejectedError(str(error)) from error
    own, passed_on = _split_off([word for word in words[1:] if word != "…"], command.pass_on)
    _check_with(parser, own, vague=_vague(words))
    known = _all_options(tuple(words[1:]))
    for word in passed_on:
        name = word.partition("=")[0]
        if name not in known and not _is_field_of_a_choice(name):
            raise RejectedError(f"`lerobot-ext {words[0]}` hands {name} to LeRobot, which does not know it")


def _check_with(parser: argparse.ArgumentParser, words: list[str], *, vague: bool) -> None:
    """Parse words; where some are left out, only look their options up."""
    if vague:
        _check_names(parser, words)
        return
    if {"-h", "--help"} & set(words):
        return

    def refuse(message: str) -> None:
        raise RejectedError(f"{parser.prog}: {message}")

    for one in _with_subparsers(parser):
        one.error = refuse  # type: ignore[assignment, method-assign]
    try:
        parser.parse_args(words)
    except argparse.ArgumentError as error:
        raise RejectedError(f"{parser.prog}: {error}") from error


def _check_names(parser: argparse.ArgumentParser, words: list[str]) -> None:
    known = {option for one in _with_subparsers(parser) for option in one._option_string_actions}
    for word in words:
        name = re.split(r"[=|…]", word)[0]
        if name.startswith("--") and name not in known:
            raise RejectedError(f"{parser.prog} has no {name}")


def _with_subparsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    found = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += [inner for one in action.choices.values() for inner in _with_subparsers(one)]
    return found


# LeRobot's own commands


def _plugins_loaded() -> None:
    """Everything that a stock command knows once it has found its plugins."""
    from lerobot_ext.training.hook import accumulate_gradients

    _imported()
    # Plugins that another test loaded before there was a training script, or took out, have left this out.
    accumulate_gradients()


@cache
def _imported() -> None:
    from lerobot.utils.import_utils import register_third_party_plugins

    for name in ("robots", "teleoperators", "cameras", "envs", "policies"):
        importlib.import_module(f"lerobot.{name}")
    for name in CONFIGURED:
        importlib.import_module(_module(name))
    register_third_party_plugins()


def _module(program: str) -> str:
    return "lerobot.scripts." + program.replace("-", "_")


@cache
def _config_class(program: str) -> Any:
    _plugins_loaded()
    function = getattr(importlib.import_module(_module(program)), CONFIGURED[program])
    inner = function.__wrapped__
    hint = inner.__annotations__[inner.__code__.co_varnames[0]]
    return vars(importlib.import_module(_module(program)))[hint] if isinstance(hint, str) else hint


def _options(program: str, words: tuple[str, ...]) -> dict[str, argparse.Action]:
    """The options that a command has, given the types its words choose."""
    from draccus.wrappers import DataclassWrapper
    from lerobot.configs.parser import SuppressingArgumentParser, _register_scoped_actions

    parser = SuppressingArgumentParser(add_help=False)
    with mock.patch.object(sys, "argv", [program, *words]):  # options of an actor are those that it names
        _register_scoped_actions(DataclassWrapper(_config_class(program)), parser, list(words))
    return dict(parser._option_string_actions)


@cache
def _all_options(words: tuple[str, ...]) -> frozenset[str]:
    programs = ("lerobot-train", "lerobot-record", "lerobot-rollout", "lerobot-eval")
    return frozenset(option for program in programs for option in _options(program, words))


@cache
def _choices() -> dict[str, Any]:
    from lerobot.cameras.configs import CameraConfig
    from lerobot.configs.policies import PreTrainedConfig
    from lerobot.envs.configs import EnvConfig
    from lerobot.robots.config import RobotConfig
    from lerobot.teleoperators.config import TeleoperatorConfig

    _plugins_loaded()
    return {
        "camera": CameraConfig,
        "env": EnvConfig,
        "policy": PreTrainedConfig,
        "robot": RobotConfig,
        "teleop": TeleoperatorConfig,
    }


def _is_field_of_a_choice(option: str) -> bool:
    """Whether `--policy.chunk_size` is a field of some registered policy, for where `.path` hides which."""
    root, *names = option.removeprefix("--").split(".")
    base = _choices().get(root)
    if base is None or not names:
        return False
    if names[0] in TYPE_FIELDS:
        return True
    return any(_has_field(cls, names) for cls in base.get_known_choices().values())


def _has_field(cls: Any, names: list[str]) -> bool:
    if not dataclasses.is_dataclass(cls) or names[0] not in {field.name for field in dataclasses.fields(cls)}:
        return False
    if len(names) == 1:
        return True
    hint = get_type_hints(cls)[names[0]]
    inner = [hint, *getattr(hint, "__args__", ())]
    return any(_has_field(one, names[1:]) or one is dict for one in inner)


def _check_lerobots(program: str, words: list[str]) -> None:
    from lerobot.configs import parser as lerobots

    if "--help" in words:
        return
    vague = _vague(words)
    whole = [word for word in words if word != "…"]
    names = [re.split(r"[=…]", word)[0] for word in whole if word.startswith("--")]
    known = _options(program, tuple(whole))
    extra = {"--config_path"}
    yours = any(_PLACEHOLDER.search(word) for word in whole)
    for name in names:
        root = name.removeprefix("--").split(".")[0]
        open_choice = vague or f"--{root}.path" in names or "--config_path" in names or yours
        if name in known or name in extra or name.endswith(".path"):
            continue
        if not (open_choice and _is_field_of_a_choice(name)):
            raise RejectedError(f"{program} has no {name}")
    for word in whole:
        name, _, value = word.partition("=")
        allowed = getattr(known.get(name), "choices", None)
        if allowed and value and "…" not in value and value not in allowed and not _PLACEHOLDER.search(word):
            raise RejectedError(f"{program}: {name} takes {', '.join(sorted(allowed))}, not {value!r}")
    if CONFIGURED[program] in MADE and not (vague or yours) and "--config_path" not in names:
        import draccus

        cls = _config_class(program)
        fields = cls.__get_path_fields__() if hasattr(cls, "__get_path_fields__") else []
        try:
            with mock.patch.object(sys, "argv", [program, *whole]):
                draccus.parse(cls, args=lerobots.filter_path_args(fields, whole))
        except (SystemExit, Exception) as error:
            raise RejectedError(f"{program}: {error}") from error


class _ParsedError(Exception):
    """Ends a command as soon as its words are parsed."""


def _check_parser_inside(program: str, words: list[str]) -> None:
    """Let a command with an argparse parser in its `main` parse its words, and no more."""
    if not words:
        importlib.import_module(_module(program))
        return
    real, argv = argparse.ArgumentParser.parse_args, sys.argv

    def parse_and_stop(self: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        argparse.ArgumentParser.parse_args = real  # type: ignore[method-assign]
        _check_with(self, words, vague=_vague(words))
        raise _ParsedError

    argparse.ArgumentParser.parse_args = parse_and_stop  # type: ignore[method-assign, assignment]
    sys.argv = [program, *words]
    try:
        importlib.import_module(_module(program)).main()
    except _ParsedError:
        return
    finally:
        argparse.ArgumentParser.parse_args, sys.argv = real, argv  # type: ignore[method-assign]
    raise RejectedError(f"{program} takes no options, and the page gives it {words}")


# Everything else


@cache
def _variables() -> str:
    places = ("lerobot_ext", "policies", "robots", "processors", "pyproject.toml")
    files = [
        path for place in places for path in [ROOT / place, *(ROOT / place).rglob("*.py")] if path.is_file()
    ]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def _check_variable(name: str) -> None:
    others = {"CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "HF_TOKEN"}
    if name not in others and name not in _variables():
        raise RejectedError(f"no code reads the variable {name}")


@cache
def _extras() -> dict[str, set[str]]:
    """Our distributions and their extras."""
    return dict(_project(path) for path in [ROOT / "pyproject.toml", *ROOT.glob("*/*/pyproject.toml")])


def _project(path: Path) -> tuple[str, set[str]]:
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    return project["name"], set(project.get("optional-dependencies", {}))


def _check_package_manager(program: str, words: list[str]) -> None:
    if program == "uv" and words and words[0] in ("sync", "build", "publish"):
        return
    if program == "uv" and words[:3] == ["add", "--dev", "--editable"] and len(words) == 4:
        return  # a folder of the reader's
    if program == "uv" and words[:1] == ["pip"]:
        words = words[1:]
    if words[:1] != ["install"]:
        raise RejectedError(f"`{program} {' '.join(words)}` is not known to the tests")
    if words[1:2] == ["-e"] and len(words) == 3:
        return  # a folder of the reader's
    _check_requirements([word for word in words[1:] if not word.startswith("-") and word != "…"])


def _check_requirements(words: list[str]) -> None:
    """Packages, or folders of this repository; a plugin's goes with that of our core, which no index has."""
    from packaging.requirements import Requirement

    folders = [_FOLDER.fullmatch(word) for word in words]
    for folder in filter(None, folders):
        path = ROOT / folder["path"] / "pyproject.toml"
        if not path.is_file():
            raise RejectedError(f"{folder['path']} is no folder of a package")
        name, extras = _project(path)
        _check_extras(name, set(filter(None, (folder["extras"] or "").split(","))), extras)
    if any(folders) and not any(folder and folder["path"] == "." for folder in folders):
        raise RejectedError("a plugin needs lerobot_ext, which no index has: name `.` in the same command")
    for word in (word for word, folder in zip(words, folders, strict=True) if not folder):
        requirement = Requirement(word)
        ours = requirement.name.startswith("lerobot_")
        if ours and requirement.name not in _extras():
            raise RejectedError(f"there is no distribution {requirement.name}")
        _check_extras(
            requirement.name, requirement.extras, _extras().get(requirement.name, requirement.extras)
        )


def _check_extras(name: str, asked: set[str], there: set[str]) -> None:
    if missing := asked - there:
        raise RejectedError(f"{name} has no extra {', '.join(sorted(missing))}")


def _check_python(program: str, words: list[str]) -> None:
    """Files have to exist; options of our scripts have to stand in their code."""
    if program == "poe":
        tasks = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["poe"]["tasks"]
        if words[0] not in tasks:
            raise RejectedError(f"there is no task {words[0]!r}")
    files = [word for word in words if word.endswith(".py") or word.startswith(("tests/", "benchmarks/"))]
    for file in files:
        if not (ROOT / file.partition("::")[0]).exists():
            raise RejectedError(f"{file} is not there")
    if program == "python" and files:
        script = ROOT / files[0]
        parts = ROOT / "benchmarks" / f"{script.stem}_parts"
        code = "".join(path.read_text(encoding="utf-8") for path in [script, *parts.glob("*.py")])
        for word in words:
            name = word.partition("=")[0]
            if name.startswith("--") and name not in code:
                raise RejectedError(f"{files[0]} has no {name}")
