# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext repair DATASET`: after a kill or a power loss, back to the last whole episode."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lerobot_ext.cli.command import Command, CommandError
from lerobot_ext.cli.look import add_json_option

if TYPE_CHECKING:
    from lerobot_ext.repair.survey import Survey

EXIT_PROBLEMS = 1


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument(
        "dataset",
        metavar="DATASET",
        help="folder of a LeRobotDataset v3, or a repo id below $HF_LEROBOT_HOME",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say what would be done, change nothing; exit 1 if anything would be",
    )
    parser.add_argument(
        "--backup-dir",
        type=Path,
        metavar="DIR",
        help="folder for the backup; beside the dataset by default, where it takes hardly any space",
    )
    add_json_option(parser)


def _run(args: Namespace) -> int:
    from lerobot_ext.data.journal_files import recording_process

    root = find_dataset(args.dataset)
    pid = recording_process(root)
    if pid is not None:
        raise CommandError(
            f"{root} is being recorded at this moment, by process {pid}",
            f"let it finish, or end it in order with `kill {pid}`",
        )
    with _looking(root) as progress:
        from lerobot_ext.repair.survey import survey

        found = survey(root, progress)
    backup = None
    if found.findings and not args.dry_run:
        backup = _repair(found, args.backup_dir)
    _report(found, backup, args)
    return EXIT_PROBLEMS if found.findings and args.dry_run else 0


def find_dataset(name: str) -> Path:
    """The folder of a dataset that is given by its path or its repo id.

    Raises:
        CommandError: There is none; similar names are listed.
    """
    import os

    if (Path(name) / "meta").is_dir():
        return Path(name).resolve()
    hub = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    home = Path(os.environ.get("HF_LEROBOT_HOME", hub / "lerobot")).expanduser()
    if (home / name / "meta").is_dir():
        return (home / name).resolve()
    # lerobot-record appends date and time to a repo id.
    near = sorted(path.parent for path in home.glob(f"{name}*/meta"))[-3:] if _is_repo_id(name) else []
    raise CommandError(
        f"no dataset at {Path(name).absolute()} or {home / name}: there is no folder `meta`",
        f"did you mean {' or '.join(str(path.relative_to(home)) for path in near)}?"
        if near
        else "name the folder that holds `meta`, `data` and `videos`, by `--dataset.root` where there is one",
    )


def _is_repo_id(name: str) -> bool:
    return not Path(name).is_absolute() and not any(sign in name for sign in "*?[") and ".." not in name


@contextmanager
def _looking(root: Path) -> Iterator[Any]:
    """A progress bar over the files that are looked at."""
    from lerobot_ext.cli.look import progress

    with progress() as bar:
        task = bar.add_task(f"Looking at {root.name}", total=None)

        def step(what: str, total: int) -> None:
            bar.update(task, total=total, advance=1, description=f"Looking at {what}")

        yield step


def _repair(found: "Survey", folder: Path | None) -> Path:
    """Back up, then mend; where the backup is."""
    from lerobot_ext.cli.look import progress
    from lerobot_ext.repair.mend import back_up, backup_path, mend

    if folder is not None:
        folder = folder.resolve()
        if folder == found.root or found.root in folder.parents:
            raise CommandError(
                f"`--backup-dir` {folder} is inside the dataset", "name a folder outside, such as its parent"
            )
        folder.mkdir(parents=True, exist_ok=True)
    backup = backup_path(found.root, folder)
    with progress() as bar:
        task = bar.add_task("Backing up", total=len(found.findings))
        back_up(found.root, backup)
        mend(found, lambda what: bar.update(task, advance=1, description=f"Mending {what}"))
    return backup


def _report(found: "Survey", backup: Path | None, args: Namespace) -> None:
    from lerobot_ext.cli.look import console, table, write_json

    lost = found.n_known - len(found.kept)
    if args.json:
        write_json(
            {
                "root": found.root,
                "healthy": found.healthy,
                "repaired": backup is not None,
                "backup": backup,
                "episodes": len(found.kept),
                "frames": found.n_frames,
                "episodes_lost": lost,
                "why": found.why_not_more if lost else "",
                "findings": found.findings,
            }
        )
        return
    out = console()

    def say(text: str) -> None:
        out.print(text, markup=False)  # paths may hold brackets

    kept = f"{len(found.kept)} whole episodes, {found.n_frames} frames"
    if found.healthy:
        say(f"{found.root} is healthy: {kept}.")
        return
    done = "to do" if args.dry_run else "done"
    rows = [(item.path, item.problem, f"{item.action} {item.detail}".strip()) for item in found.findings]
    out.print(table("", ["where", "what is wrong", done], rows))
    if lost:
        say(f"Lost: {lost} of {found.n_known} episodes. {found.why_not_more}.")
    if backup is None:
        say(f"Nothing was changed. Without `--dry-run`: {kept}.")
        return
    say(f"{found.root} is repaired: {kept}. `lerobot-record --resume=true` goes on with it.")
    say(f"As it was before: {backup} (delete it when you are content).")


REPAIR = Command(
    name="repair",
    summary="Bring a dataset whose recording was cut off back to its last whole episode.",
    example="lerobot-ext repair me/koch_lift --dry-run",
    configure=_configure,
    run=_run,
)
