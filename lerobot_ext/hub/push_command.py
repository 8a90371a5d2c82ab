# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext push FOLDER USER/REPO`: a checkpoint of this machine to the Hub, in one commit."""

import re
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lerobot_ext.cli.command import Command, CommandError
from lerobot_ext.cli.look import add_json_option

if TYPE_CHECKING:
    from lerobot_ext.hub.requirements import Requirements

REPO_ID = re.compile(r"(?:[A-Za-z0-9][\w.-]{0,95}/)?[A-Za-z0-9][\w.-]{0,95}")
MESSAGE = "Upload policy, processors, requirements and card"


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="a pretrained_model, a checkpoint, or a run's output"
    )
    parser.add_argument("repo_id", metavar="USER/REPO", help="model repository; created when missing")
    parser.add_argument("--private", action="store_true", help="nobody else may see it; refuses a public one")
    parser.add_argument(
        "--eval",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="output of lerobot-eval with this checkpoint, for the card; may be repeated",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be pushed; no request is made")
    add_json_option(parser)


def _run(args: Namespace) -> int:
    """Check the checkpoint, complete it in a temporary folder, push."""
    import tempfile

    from lerobot_ext.cli.look import console, table, write_json
    from lerobot_ext.hub.checkpoint import (
        LOCAL_BASE,
        CheckpointError,
        adapted_folder,
        examine,
        files_of,
        find_checkpoint,
    )
    from lerobot_ext.hub.push import PushError, open_repository, push_files

    if not REPO_ID.fullmatch(args.repo_id):
        raise CommandError(f"{args.repo_id!r} is no name of a repository", "write USER/REPO")
    try:
        folder = find_checkpoint(args.folder.expanduser())
    except CheckpointError as error:
        raise CommandError(str(error), error.remedy) from error
    problems = examine(folder)
    if problems:
        raise CommandError(f"{folder} is not whole: " + "; ".join(map(str, problems)), problems[0].remedy)
    if base := adapted_folder(folder):
        sys.stderr.write(LOCAL_BASE % base + "\n")
    with tempfile.TemporaryDirectory() as temporary:
        made = _complete(folder, Path(temporary), args.repo_id, args.eval)
        files = files_of(folder) | made
        result: dict[str, Any] = {
            "repo_id": args.repo_id,
            "folder": str(folder),
            "private": args.private or None,
            "dry_run": args.dry_run,
            "files": [{"name": name, "bytes": path.stat().st_size} for name, path in sorted(files.items())],
        }
        if not args.dry_run:
            from huggingface_hub import HfApi

            api = HfApi()
            try:
                full = open_repository(api, args.repo_id, args.private or None)
                commit = push_files(api, full, files, MESSAGE)
            except PushError as error:
                again = f"{error.remedy}; then run this again: files that have arrived are not sent twice"
                raise CommandError(f"nothing was pushed: {error}", again) from error
            result |= {"repo_id": full, "commit": commit.oid, "url": commit.repo_url.url}
        if args.json:
            write_json(result)
            return 0
        out = console()
        rows = [(entry["name"], f"{entry['bytes']:,}") for entry in result["files"]]
        out.print(table("", ["file", "bytes"], rows))
        if args.dry_run:
            out.print(f"Would go to {args.repo_id} in one commit. Nothing was sent.", markup=False)
        else:
            out.print(f"Pushed to {result['url']} as commit {commit.oid}.", markup=False)
            out.print(f"Get it with: lerobot-ext pull --policy.path={full}", markup=False)
    return 0


def _complete(folder: Path, out: Path, repo_id: str, evals: list[Path]) -> dict[str, Path]:
    """What the checkpoint lacks for the Hub, written into `out`: requirements, picture, card."""
    from lerobot_ext.hub.checkpoint import CARD, UNWRITTEN, CheckpointError, complete

    needs = _with_evaluations(_requirements(folder), evals)
    needs.save(out)
    try:
        complete(folder, needs, out, repo_id)
    except (CheckpointError, ValueError) as error:
        raise CommandError(
            str(error), "train again, or delete lerobot_ext.json: it is derived then"
        ) from error
    made = {path.name: path for path in out.iterdir()}
    own = folder / CARD
    if own.is_file() and UNWRITTEN not in own.read_text(encoding="utf-8", errors="replace"):
        del made[CARD]
    return made


def _requirements(folder: Path) -> "Requirements":
    """The checkpoint's own requirements, or those that are derived from what is installed."""
    from lerobot_ext.hub.derive import derive
    from lerobot_ext.hub.requirements import FILE_NAME, RequirementsError, read_requirements

    try:
        return read_requirements(folder / FILE_NAME)
    except RequirementsError as error:
        raise CommandError(str(error), f"delete {folder / FILE_NAME}: it is derived then") from error
    except FileNotFoundError:
        needs, unknown = derive(folder)
    if unknown:
        raise CommandError(
            f"{folder} needs what is not installed here: " + "; ".join(map(str, unknown)),
            "install it, so that the card can name it and its version",
        )
    return needs


def _with_evaluations(needs: "Requirements", folders: list[Path]) -> "Requirements":
    """`needs` with the results of `lerobot-eval` in its history.

    Raises:
        CommandError: A folder holds no readable result.
    """
    import dataclasses
    import json

    from lerobot_ext.hub.history import TrainingHistory, evaluations_of

    try:
        history = TrainingHistory.from_json(needs.history)
    except ValueError as error:
        raise CommandError(
            str(error), "delete the checkpoint's lerobot_ext.json: it is derived then"
        ) from error
    for folder in folders:
        path = folder if folder.is_file() else folder / "eval_info.json"
        try:
            info = json.loads(path.read_bytes())
            history.evaluations.extend(evaluations_of(info, needs.training.get("steps")))
        except FileNotFoundError:
            raise CommandError(
                f"--eval: there is no {path}", "name the --output_dir of lerobot-eval"
            ) from None
        except ValueError as error:
            raise CommandError(f"--eval: {path}: {error}", "name the --output_dir of lerobot-eval") from error
    return dataclasses.replace(needs, history=history.to_json())


PUSH = Command(
    name="push",
    summary="Push a checkpoint to the Hub in one commit, with a card that says what it needs.",
    example="lerobot-ext push outputs/lift me/lift --private --eval=outputs/eval",
    configure=_configure,
    run=_run,
)
