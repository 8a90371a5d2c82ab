# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext fqe`: which checkpoint of a run is worth most, from logs alone. Cheap to import."""

from __future__ import annotations

import contextlib
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from lerobot_ext.cli.command import Command, count
from lerobot_ext.cli.look import add_json_option

if TYPE_CHECKING:
    from lerobot_ext.offline_rl.fqe_session import Ranking


def _configure(parser: ArgumentParser) -> None:
    parser.usage = "lerobot-ext fqe RUN [--dataset.root=DIR] [--discount 0.99] [--steps 2000] [--json]"
    parser.add_argument("run", type=Path, help="output folder of lerobot-train, with its checkpoints")
    parser.add_argument("--steps", type=count, default=2000, help="of the evaluating critic (%(default)s)")
    parser.add_argument("--members", type=count, default=4, help="evaluating critics (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the evaluating critic (%(default)s)")
    parser.add_argument(
        "--every",
        type=count,
        default=1,
        metavar="K",
        help="look at each K-th frame of an episode; must divide the policy's n_action_steps (%(default)s)",
    )
    parser.add_argument("--discount", type=float, help="of one frame (default: the policy's, else 0.99)")
    parser.add_argument("--reward_source", help="next.reward, sparse_success or step_cost (the policy's)")
    parser.add_argument(
        "--terminal_mode", help="auto, success, done_flag, episode_end or never (the policy's)"
    )
    parser.add_argument("--device", help="cpu, cuda, mps (default: the checkpoint's)")
    parser.add_argument(
        "--no-best", action="store_true", help="do not let checkpoints/best point to the best"
    )
    add_json_option(parser)


def _run(args: Namespace) -> int:
    from lerobot_ext.cli.look import progress, write_json
    from lerobot_ext.doctor.checkpoint_child import load_plugins
    from lerobot_ext.offline_rl import fqe_session

    run = fqe_session.find_run(args.run)
    # LeRobot prints now and then; stdout is for results.
    with contextlib.redirect_stdout(sys.stderr):
        load_plugins()
        with progress() as bar:
            task = bar.add_task("checkpoints", total=len(run.checkpoints))
            ranking = fqe_session.rank(
                run,
                args.passed_on,
                fqe_session.Settings(
                    steps=args.steps,
                    members=args.members,
                    seed=args.seed,
                    every=args.every,
                    discount=args.discount,
                    reward_source=args.reward_source,
                    terminal_mode=args.terminal_mode,
                    device=args.device,
                ),
                lambda: bar.advance(task),
            )
    fqe_session.write(run, ranking, point=not args.no_best)
    if args.json:
        write_json(ranking)
    else:
        _show(run.folder, ranking, pointed=not args.no_best)
    return 0


def _show(folder: Path, ranking: Ranking, *, pointed: bool) -> None:
    from lerobot_ext.cli.look import console, table

    out = console()
    rows = [
        (row.checkpoint, f"{row.value:.4g}", f"{row.spread:.2g}", f"{row.error:.2g}", "best" * row.best)
        for row in ranking.rows
    ]
    columns = ("checkpoint", "value", "± critics", "TD error", "")
    out.print(table(f"Fitted Q evaluation, {ranking.starts} first states", columns, rows))
    for note in ranking.notes:
        out.print(note, markup=False)
    out.print(
        f"wrote {folder / 'fqe.json'}"
        + (f"; {folder / 'checkpoints' / 'best'} is the best" if pointed else ""),
        markup=False,
    )


FQE = Command(
    name="fqe",
    summary="Rank the checkpoints of a run by fitted Q evaluation on its logs, without a robot.",
    example="lerobot-ext fqe outputs/train/lapo_lift",
    configure=_configure,
    run=_run,
    pass_on=("--dataset.",),
)
