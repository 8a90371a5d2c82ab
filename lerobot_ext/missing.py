# SPDX-License-Identifier: Apache-2.0
"""One line for who asks a stock command line for a part of ours whose plugin is not installed.

LeRobot itself only says `invalid choice: 'hierarchical_diffusion'` or `Policy type … is not registered` and
lists what there is. Plugins load before the command line is read, so a look at it tells which package to
install: for a type by a list of ours, for a checkpoint by the `lerobot_ext.json` in it.
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from lerobot_ext import last_words
from lerobot_ext.cli.command import CommandError
from lerobot_ext.installing import install_command

_CHECKPOINT = "--policy.path"
_TRAINING = "--config_path"
_TIMEOUT_S = 5.0

# Options of the stock command lines whose value names a part of ours, and the plugin that brings it.
PROVIDERS = {
    ("--policy.type", "act_plus"): "lerobot_policy_act_plus",
    ("--policy.type", "hierarchical_diffusion"): "lerobot_policy_hierarchical_diffusion",
    ("--policy.type", "lapo"): "lerobot_policy_lapo",
    ("--policy.type", "q_chunking"): "lerobot_policy_q_chunking",
    ("--env.type", "koch"): "lerobot_env_koch",
}

logger = logging.getLogger(__name__)


def hint(argv: Sequence[str] | None = None) -> None:
    """Log which plugin to install for an option on the command line; nothing when all are there.

    A plugin that is installed and broken is not mentioned: the loader has reported it already.

    Args:
        argv (`Sequence[str]`, *optional*): The words of the command line; those of the process by default.
    """
    words = sys.argv[1:] if argv is None else argv
    for option, value, distribution in _wanted(words):
        try:
            metadata.distribution(distribution)
        except metadata.PackageNotFoundError:
            last_words.say(
                logger,
                logging.ERROR,
                "lerobot_ext: %s=%s needs plugin %s, which is not installed. Remedy: `%s`",
                option,
                value,
                distribution,
                install_command(distribution),
            )
    for option, value in options(words):
        if option == _CHECKPOINT and value:
            _hint_of_checkpoint(value, option)
        elif option == _TRAINING and Path(value).is_file():
            # A training that goes on: its checkpoint is the folder that the file is in.
            _hint_of_checkpoint(str(Path(value).parent), option)


def require(module: str, extra: str) -> None:
    """Refuse a command whose library is not installed, before it does anything.

    Args:
        module (`str`): The library's import name.
        extra (`str`): The extra of `lerobot_ext` that brings it.

    Raises:
        CommandError: It is not there; the remedy is the line that installs it.
    """
    if find_spec(module) is None:
        raise CommandError(f"{module} is missing", f"`{install_command(f'lerobot_ext[{extra}]')}`")


def _hint_of_checkpoint(name: str, option: str = _CHECKPOINT) -> None:
    """Log what the checkpoint in a folder or a repository needs and is not installed.

    A checkpoint that does not say, or cannot be read, is left to LeRobot's own errors.
    """
    # Imported here: only a command line with a checkpoint pays for it.
    from lerobot_ext.hub.requirements import RequirementsError, install_line, parse_requirements, shortfalls

    note = _note_of(name)
    if note is None:
        return
    try:
        needs = parse_requirements(note, f"lerobot_ext.json of {name}")
    except RequirementsError as error:
        logger.warning("lerobot_ext: what %s needs cannot be read: %s", name, error)
        return
    missing = [entry.package for entry in shortfalls(needs.packages) if entry.kind == "missing"]
    if missing:
        last_words.say(
            logger,
            logging.ERROR,
            "lerobot_ext: %s=%s (policy %s) needs %s, not installed here. Remedy: `%s`",
            option,
            name,
            needs.policy,
            ", ".join(f"{package.name} {package.version}" for package in missing),
            install_line(missing),
        )


def _note_of(name: str) -> bytes | None:
    """The `lerobot_ext.json` of a folder, or of a repository on the Hub; `None` if there is none."""
    from lerobot_ext.hub.requirements import FILE_NAME

    folder = Path(name).expanduser()
    if folder.is_dir():
        return (folder / FILE_NAME).read_bytes() if (folder / FILE_NAME).is_file() else None
    import httpx
    from huggingface_hub import get_session, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.utils import build_hf_headers

    try:
        url = hf_hub_url(name, FILE_NAME)
        # Asked once: the client's own download would try for half a minute when there is no network.
        answer = get_session().get(url, headers=build_hf_headers(), timeout=_TIMEOUT_S, follow_redirects=True)
        return bytes(answer.content) if answer.status_code == httpx.codes.OK else None
    except ValueError:
        return None  # no name of a repository; LeRobot says so next
    except (httpx.HTTPError, OSError):
        cached = try_to_load_from_cache(name, FILE_NAME)
        return Path(cached).read_bytes() if isinstance(cached, str) else None


def _wanted(words: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Options that name a part of ours, and the plugin that brings it."""
    for option, value in options(words):
        distribution = PROVIDERS.get((option, value))
        if distribution is not None:
            yield option, value, distribution


def options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Options and values, written `--option=value` or `--option value`."""
    for word, following in zip(words, [*words[1:], ""], strict=False):
        option, equals, value = word.partition("=")
        yield option, value if equals else following
