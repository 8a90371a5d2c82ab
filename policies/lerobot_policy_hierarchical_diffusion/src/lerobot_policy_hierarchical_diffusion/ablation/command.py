# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext ablate`: what each layer of a policy is worth to its denoiser."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any

from lerobot_ext.cli.command import Command, CommandError, count
from lerobot_ext.cli.look import add_json_option


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("--policy.path", dest="path", required=True, metavar="DIR", help="the checkpoint")
    parser.add_argument("--policy.device", dest="device", metavar="DEVICE", help="cpu, cuda, …")
    parser.add_argument(
        "--dataset.repo_id",
        dest="repo_id",
        metavar="ID",
        required=True,
        help="demonstrations that the policy was not trained on",
    )
    parser.add_argument("--dataset.root", dest="root", metavar="DIR")
    parser.add_argument("--frames", type=count, default=2048, metavar="N", help="of the dataset (2048)")
    parser.add_argument("--draws", type=count, default=4, metavar="N", help="noises of each frame (4)")
    add_json_option(parser)


def _run(args: Namespace) -> int:
    from lerobot_ext.cli.look import console, progress, table, write_json

    from ..loading import dataset_batches, load_policy
    from .losses import episode_losses

    policy = load_policy(args.path, args.device)
    if not policy.config.layers:
        raise CommandError(f"{args.path} has no layers", "train one with `--policy.layers`")
    with progress() as bar:
        task = bar.add_task("frames", total=args.frames)

        def batches() -> Iterator[dict[str, Any]]:
            for observation, batch in dataset_batches(policy, args):
                yield batch
                bar.advance(task, len(observation.state))

        found = episode_losses(policy, batches(), args.draws)
    loss, rises = found.loss(), found.rises()
    if args.json:
        write_json(
            {
                "episodes": len(found.frames),
                "loss": loss.as_dict(),
                "rise": {name: rise.as_dict() for name, rise in rises.items()},
            }
        )
        return 0
    out = console()
    out.print(f"diffusion loss with all layers: {loss.value:.5f} ({loss.low:.5f} to {loss.high:.5f})")
    rows = [
        (name, f"{100 * rise.value:+.1f} %", f"{100 * rise.low:+.1f} to {100 * rise.high:+.1f} %")
        for name, rise in rises.items()
    ]
    out.print(table("", ["", "the loss rises by", f"95 %, {len(found.frames)} episodes"], rows))
    return 0


ABLATE = Command(
    name="ablate",
    summary="Say what each layer of a hierarchical_diffusion policy is worth to its denoiser.",
    example="lerobot-ext ablate --policy.path=run/checkpoints/last/pretrained_model "
    "--dataset.repo_id=you/held_out",
    configure=_configure,
    run=_run,
)
