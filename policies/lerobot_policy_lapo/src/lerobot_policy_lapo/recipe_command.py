# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext lapo-recipe`: settings for small, medium and large data, as a file for `--config_path`."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from importlib.resources import files
from pathlib import Path

from lerobot_ext.cli import Command, CommandError

RECIPES = ("small", "medium", "large")


def recipe_text(name: str) -> str:
    """The YAML text of a recipe.

    Raises:
        CommandError: There is none of that name.
    """
    if name not in RECIPES:
        raise CommandError(f"there is no recipe {name!r}", f"choose one of {', '.join(RECIPES)}")
    return (files("lerobot_policy_lapo") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("recipe", help="small (below 10,000 frames), medium, or large (above 100,000 frames)")
    parser.add_argument("--out", type=Path, help="file to write; without it the recipe is printed")


def _run(args: Namespace) -> int:
    text = recipe_text(args.recipe)
    if args.out is None:
        sys.stdout.write(text)
        return 0
    if args.out.exists():
        raise CommandError(f"{args.out} exists", "remove it or name another file")
    args.out.write_text(text, encoding="utf-8")
    sys.stdout.write(f"lerobot-train --config_path={args.out} --dataset.repo_id=…\n")
    return 0


LAPO_RECIPE = Command(
    name="lapo-recipe",
    summary="Write the settings of a LAPO training for small, medium or large data.",
    example="lerobot-ext lapo-recipe small --out small.yaml",
    configure=_configure,
    run=_run,
)
