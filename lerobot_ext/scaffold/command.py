# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext new KIND NAME`: a plugin to start from."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from lerobot_ext.cli.command import Command
from lerobot_ext.cli.look import add_json_option
from lerobot_ext.installing import source_folder
from lerobot_ext.scaffold.names import KINDS, Names, check_free, make_names

_WHAT = {kind: f"a {kind}" for kind in KINDS} | {"env": "an environment", "processor": "a processor step"}


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("name", metavar="NAME", help="what users will write after --KIND.type=, `my_arm`")
    parser.add_argument("--dir", type=Path, default=Path(), help="where the project's folder is made; here")
    parser.add_argument("--author", default="", help="`Ada Lovelace` or `Ada Lovelace <ada@example.org>`")
    parser.add_argument("--description", default="", help="one line for the package index")
    add_json_option(parser)


def _run(args: Namespace) -> int:
    """Write the project and say what to do next."""
    from lerobot_ext.cli.look import console, write_json
    from lerobot_ext.scaffold.render import Texts, project_files, write_project

    names = make_names(args.kind, args.name)
    texts = Texts(args.author, args.description)
    check_free(names)
    folder = args.dir / names.package
    files = project_files(names, texts)
    write_project(folder, files)
    commands = next_commands(names, folder)
    if args.json:
        write_json(
            {
                "kind": names.kind,
                "name": names.name,
                "package": names.package,
                "folder": folder.resolve(),
                "files": list(files),
                "notes": names.notes,
                "next": commands,
            }
        )
        return 0
    out = console()
    for note in names.notes:
        out.print(note, markup=False)
    out.print(f"{folder}: {len(files)} files, {_WHAT[names.kind]} that works as it is.\n", markup=False)
    out.print("Next:", markup=False)
    for command in commands:
        out.print(f"  {command}", markup=False)
    return 0


def next_commands(names: Names, folder: Path) -> list[str]:
    """What to type after the project is written: set up, test, try with a stock command."""
    commands = [f"cd {folder}", "git init -b main && git add -A"]
    source = source_folder()
    if source is not None:
        # Not from an index: uv would look for it there.
        commands.append(f"uv add --dev --editable {source}")
    commands += [
        "uv sync",
        "uv run pytest",
        "uv run ruff check . && uv run ruff format --check . && uv run mypy",
    ]
    return [*commands, TRY[names.kind].format(name=names.name, package=names.package)]


TRY = {
    "policy": "uv run lerobot-train --policy.type={name} --policy.push_to_hub=false "
    "--dataset.repo_id=lerobot/pusht --steps=100",
    "robot": "uv run lerobot-calibrate --robot.type={name}",
    "teleoperator": "uv run lerobot-calibrate --teleop.type={name}",
    "camera": "uv run lerobot-ext check --camera.type={name}",
    "env": "uv run lerobot-ext check --env.type={name}",
    "processor": "uv run lerobot-ext check --step={name}",
}


NEW = Command(
    name="new",
    summary="Write a new plugin that works as it is: policy, robot, teleoperator, camera, env or processor.",
    example="lerobot-ext new policy my_act",
    configure=_configure,
    run=_run,
)
