# SPDX-License-Identifier: Apache-2.0
"""How long a chunk of actions takes on a CPU: `hierarchical_diffusion` against itself and stock `diffusion`.

First each exact speed-up of a plan beside what it replaces, with the largest difference of their results;
then whole chunks, from an observation to actions, beside LeRobot's diffusion policy as it ships and with
fewer steps and channels. All sides run in turn, in one process, on one thread; times are medians, ratios are
medians of the ratios of rounds. Weights are random: times do not depend on them. Prints tables, writes
`inference_speed.json` and `.png` where `--out` says.
Expected last line: `inference_speed: … times faster than stock diffusion with its 100 steps from joints, …
from two cameras`.

    uv run python benchmarks/inference_speed.py [--quick] [--parts exact stock] [--rounds 25] \
        [--stock-rounds 3] [--out DIR]
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
from lerobot_policy_hierarchical_diffusion import HierarchicalDiffusionConfig, HierarchicalDiffusionPolicy
from lerobot_policy_hierarchical_diffusion import network as plan_module
from lerobot_policy_hierarchical_diffusion.deadline.table import machine_name
from lerobot_policy_hierarchical_diffusion.fast.conditioned import Conditioned
from lerobot_policy_hierarchical_diffusion.sampling import Chain, make_chain
from torch import Tensor

JOINTS, POSE = 6, 7
STOCK_DIMS = (512, 1024, 2048)
SHIPPED = "512-1024-2048, horizon 64"
"""LeRobot's defaults."""
PARTS = ("exact", "stock")


@dataclass(frozen=True)
class Row:
    """Two sides of a measurement.

    Args:
        what (`str`): What is computed.
        before_ms (`float`): Median CPU ms of the plain or stock side.
        after_ms (`float`): Median CPU ms of ours.
        ratio (`float`): Median over the rounds of before / after.
        difference (`float`, *optional*): Largest difference of the results.
        note (`str`): What else there is to know.
    """

    what: str
    before_ms: float
    after_ms: float
    ratio: float
    difference: float | None = None
    note: str = ""


def compared(
    what: str,
    before: Callable[[], Any],
    after: Callable[[], Any],
    rounds: int,
    *,
    repeats: int = 5,
    warm: bool = True,
    difference: float | None = None,
    note: str = "",
) -> Row:
    """Run both sides in turn; CPU time, which other processes on the machine disturb less than wall time."""
    for work in (before, after) if warm else ():
        work()
    times: list[tuple[float, float]] = [
        (_cpu_ms(before, repeats), _cpu_ms(after, repeats)) for _ in range(rounds)
    ]
    first, second = zip(*times, strict=True)
    ratio = statistics.median(one / other for one, other in times)
    return Row(what, statistics.median(first), statistics.median(second), ratio, difference, note)


def _cpu_ms(work: Callable[[], Any], repeats: int) -> float:
    started = time.process_time_ns()
    for _ in range(repeats):
        work()
    return (time.process_time_ns() - started) / repeats / 1e6


# ---- policies


def features(cameras: int, size: tuple[int, int]) -> dict[str, dict[str, PolicyFeature]]:
    """A six-joint arm with the pose of an object, or with cameras instead of it."""
    inputs = {"observation.state": PolicyFeature(FeatureType.STATE, (JOINTS,))}
    if not cameras:
        inputs["observation.environment_state"] = PolicyFeature(FeatureType.ENV, (POSE,))
    for number in range(cameras):
        inputs[f"observation.images.cam{number}"] = PolicyFeature(FeatureType.VISUAL, (3, *size))
    return {
        "input_features": inputs,
        "output_features": {"action": PolicyFeature(FeatureType.ACTION, (JOINTS,))},
    }


def ours(cameras: int = 0, size: tuple[int, int] = (96, 96), **fields: Any) -> HierarchicalDiffusionPolicy:
    """Our policy with random weights."""
    config = HierarchicalDiffusionConfig(device="cpu", **features(cameras, size), **fields)
    return HierarchicalDiffusionPolicy(config).eval()


def stock(cameras: int = 0, size: tuple[int, int] = (96, 96), **fields: Any) -> DiffusionPolicy:
    """LeRobot's diffusion policy with random weights, so that nothing is fetched."""
    fields = {"pretrained_backbone_weights": None, **fields}
    return DiffusionPolicy(DiffusionConfig(device="cpu", **features(cameras, size), **fields)).eval()


def observation(policy: Any) -> dict[str, Any]:
    """One preprocessed observation."""
    generator = torch.Generator().manual_seed(0)
    found = {
        name: torch.rand(1, *feature.shape, generator=generator)
        for name, feature in policy.config.input_features.items()
    }
    return {**found, "task": ["lift the cube"]}


def chunk(policy: Any, seen: dict[str, Any]) -> Callable[[], Any]:
    """What plans a chunk of actions from `seen`."""

    def work() -> Any:
        policy.reset()
        with torch.inference_mode():
            return policy.select_action(dict(seen))

    return work


# ---- ours against ourselves


@contextmanager
def plainly() -> Iterator[None]:
    """Plans as without the speed-ups: the denoiser is called at each step, diffusers' scheduler steps."""

    def step(chain: Chain, number: int, predicted: Tensor, sample: Tensor) -> Tensor:
        timestep = chain.timesteps[number]
        return chain.scheduler.step(predicted, timestep, sample).prev_sample  # type: ignore[no-any-return]

    def called(denoiser: Any, condition: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda noisy, timestep: denoiser(noisy, timestep, condition)

    kept = plan_module.Conditioned, Chain.step
    plan_module.Conditioned, Chain.step = called, step  # type: ignore[misc, assignment, method-assign]
    try:
        yield
    finally:
        plan_module.Conditioned, Chain.step = kept  # type: ignore[misc, method-assign]


@torch.no_grad()
def denoisers(rounds: int, *, large: bool) -> Iterator[Row]:
    """Four denoising steps, step by step and with what they share computed once."""
    kinds: dict[str, dict[str, Any]] = {
        "MLP": {},
        "U-Net 64-128-256": {"denoiser": "unet"},
    }
    if large:
        kinds["U-Net 512-1024-2048"] = {"denoiser": "unet", "unet_dims": STOCK_DIMS}
    for name, fields in kinds.items():
        policy = ours(**fields, ema_decay=0.0)
        denoiser, config = policy.network.denoiser, policy.config
        chain = make_chain(policy.network.scheduler, 4, config.draft_noise)
        noisy = torch.randn(1, config.horizon, JOINTS)
        condition = torch.randn(1, 2 * config.condition_dim)

        def stepwise(denoiser=denoiser, chain=chain, noisy=noisy, condition=condition) -> list[Tensor]:  # type: ignore[no-untyped-def]
            return [denoiser(noisy, torch.full((1,), t), condition) for t in chain.timesteps]

        def at_once(denoiser=denoiser, chain=chain, noisy=noisy, condition=condition) -> list[Tensor]:  # type: ignore[no-untyped-def]
            predict = Conditioned(denoiser, condition).over(chain.timesteps)
            return [predict(noisy, number) for number in range(len(chain.timesteps))]

        pairs = zip(stepwise(), at_once(), strict=True)
        difference = max(float((one - other).abs().max()) for one, other in pairs)
        repeats = 1 if "512" in name else 5
        few = min(rounds, 7) if "512" in name else rounds
        yield compared(
            f"4 steps of the {name}", stepwise, at_once, few, repeats=repeats, difference=difference
        )


@torch.no_grad()
def pieces(rounds: int) -> Iterator[Row]:
    """The sampler's own step, and a plan's look at two frames of which one is known."""
    policy = ours(2, n_obs_steps=2, ema_decay=0.0)
    chain = make_chain(policy.network.scheduler, 4, 0.4)
    sample, predicted = torch.randn(2, 1, 16, JOINTS)

    def theirs() -> Tensor:
        return chain.scheduler.step(predicted, chain.timesteps[0], sample).prev_sample  # type: ignore[no-any-return]

    def mine() -> Tensor:
        return chain.step(0, predicted, sample)

    difference = float((theirs() - mine()).abs().max())
    yield compared("one DDIM step, diffusers'", theirs, mine, rounds, repeats=50, difference=difference)

    vision = policy.network.vision
    assert vision is not None
    frames = [torch.rand(1, rounds * 20 + 2, 3, 96, 96) for _ in range(2)]
    place = {"forgetting": 0, "remembering": 0}

    def look(how: str) -> Tensor:
        at = place[how] = (place[how] + 1) % (rounds * 20)
        if how == "forgetting":
            with torch.enable_grad():  # where gradients flow nothing is remembered
                return vision([camera[:, at : at + 2] for camera in frames]).tokens.detach()  # type: ignore[no-any-return]
        return vision([camera[:, at : at + 2] for camera in frames]).tokens  # type: ignore[no-any-return]

    vision.requires_grad_(False)
    difference = float((look("forgetting") - look("remembering")).abs().max())
    yield compared(
        "two cameras, the newest two frames",
        lambda: look("forgetting"),
        lambda: look("remembering"),
        rounds,
        repeats=4,
        difference=difference,
        note="the older frame was the newest before",
    )


def plans(rounds: int) -> Iterator[Row]:
    """Whole plans of ours, as they are and as without the speed-ups."""
    for name, cameras, fields in (
        ("joints, MLP", 0, {}),
        ("joints, U-Net", 0, {"denoiser": "unet"}),
        ("two cameras, MLP", 2, {}),
        ("two cameras, U-Net", 2, {"denoiser": "unet"}),
    ):
        policy = ours(cameras, ema_decay=0.0, **fields)  # type: ignore[arg-type]
        work = chunk(policy, observation(policy))

        def plain(work=work) -> Any:  # type: ignore[no-untyped-def]
            with plainly():
                return work()

        yield compared(f"whole plan, {name}, 4 steps", plain, work, rounds)


# ---- ours against stock


SMALL: dict[str, Any] = {"down_dims": (64, 128, 256), "horizon": 16, "n_action_steps": 8}


def against_stock(rounds: int, *, quick: bool) -> Iterator[Row]:
    """Chunks of stock diffusion beside ours at the same observation."""
    for place, cameras in (("joints", 0), ("two cameras", 2)):
        mine = ours(cameras)
        if quick:
            theirs = stock(cameras)
            theirs.diffusion.num_inference_steps = 10
            yield beside(f"{place}: stock, {SHIPPED}, 10 of its 100 steps", theirs, mine, rounds)
            continue
        for name, fields in ((SHIPPED, {}), ("64-128-256, horizon 16", SMALL)):
            theirs = stock(cameras, **fields)
            yield beside(f"{place}: stock, {name}, 100 steps", theirs, mine, rounds)
            take_ddim_steps(theirs, 10)
            yield beside(f"{place}: stock, {name}, 10 DDIM steps", theirs, mine, rounds)


def beside(what: str, theirs: DiffusionPolicy, mine: HierarchicalDiffusionPolicy, rounds: int) -> Row:
    """A chunk of each, in turn."""
    steps, theirs.diffusion.num_inference_steps = theirs.diffusion.num_inference_steps, 1
    chunk(theirs, observation(theirs))()  # what a first call does once, without the time of 100 steps
    theirs.diffusion.num_inference_steps = steps
    note = f"{_size(theirs)} against {_size(mine)}"
    works = chunk(theirs, observation(theirs)), chunk(mine, observation(mine))
    works[1]()
    return compared(what, *works, rounds, repeats=1, warm=False, note=note)


def take_ddim_steps(policy: DiffusionPolicy, steps: int) -> None:
    """Let it sample as with `--policy.noise_scheduler_type=DDIM --policy.num_inference_steps=…`."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    policy.diffusion.noise_scheduler = DDIMScheduler.from_config(policy.diffusion.noise_scheduler.config)
    policy.diffusion.num_inference_steps = steps


def _size(policy: Any) -> str:
    network = getattr(policy, "network", policy)
    config = policy.config
    parameters = sum(p.numel() for p in network.parameters())
    return (
        f"{parameters / 1e6:.1f} M parameters, {config.n_action_steps} of {config.horizon} actions executed"
    )


# ---- report


def print_table(title: str, columns: tuple[str, str], rows: list[Row]) -> None:
    """As Markdown."""
    print(f"\n| {title} | {columns[0]}, ms | {columns[1]}, ms | ratio | largest difference |")
    print("|---|---|---|---|---|")
    for row in rows:
        difference = "" if row.difference is None else f"{row.difference:.1e}"
        print(f"| {row.what} | {row.before_ms:.4g} | {row.after_ms:.4g} | {row.ratio:.2f} | {difference} |")


def draw(rows: list[Row], path: Path) -> None:
    """Bars of both sides, on a logarithmic scale."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.5 * len(rows) + 1), layout="constrained")
    axis = figure.subplots()
    for offset, side, label in ((-0.2, "before_ms", "plain or stock"), (0.2, "after_ms", "ours")):
        axis.barh(
            [i + offset for i in range(len(rows))], [getattr(row, side) for row in rows], 0.38, label=label
        )
    axis.set_yticks(range(len(rows)), [row.what for row in rows], fontsize=8)
    axis.invert_yaxis()
    axis.set(xscale="log", xlabel="CPU ms")
    axis.legend()
    figure.savefig(path, dpi=110)


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="about a minute; 10 of stock's 100 steps")
    parser.add_argument("--parts", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--stock-rounds", type=int, default=3, help="of chunks of stock diffusion")
    parser.add_argument("--out", type=Path, metavar="DIR")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rounds = 5 if args.quick else args.rounds
    exact: list[Row] = []
    if "exact" in args.parts:
        exact = _told([denoisers(rounds, large=not args.quick), pieces(rounds), plans(rounds)])
        print_table("the same numbers in less time", ("plain", "fast"), exact)
    stock_rows: list[Row] = []
    if "stock" in args.parts:
        stock_rounds = 1 if args.quick else args.stock_rounds
        stock_rows = _told([against_stock(stock_rounds, quick=args.quick)])
        print_table("a chunk", ("stock", "ours"), stock_rows)
        print(f"\nstock, {SHIPPED}: {stock_rows[0].note}")
    machine = machine_name("cpu", 1)
    print(f"\nCPU time of one thread of {machine}")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        found = {"machine": machine, "torch": torch.__version__, "rounds": rounds, "quick": args.quick}
        rows = [asdict(row) for row in exact + stock_rows]
        (args.out / "inference_speed.json").write_text(json.dumps(found | {"rows": rows}, indent=2) + "\n")
        draw(exact + stock_rows, args.out / "inference_speed.png")
    print(summary(exact, stock_rows))
    return 0


def _told(parts: list[Iterator[Row]]) -> list[Row]:
    """All rows, each said when it is there: stock's chunks take their time."""
    rows = []
    for part in parts:
        for row in part:
            print(f"{row.what}: {row.before_ms:.4g} and {row.after_ms:.4g} ms", file=sys.stderr)
            rows.append(row)
    return rows


def summary(exact: list[Row], stock_rows: list[Row]) -> str:
    """The last line."""
    if stock_rows:
        ratios = [row.ratio for row in stock_rows if SHIPPED in row.what and "DDIM" not in row.what]
        steps = "10 of its 100 steps" if "10 of" in stock_rows[0].what else "its 100 steps"
        return (
            f"inference_speed: {ratios[0]:.0f} times faster than stock diffusion with {steps} from joints, "
            f"{ratios[1]:.0f} from two cameras"
        )
    whole = [row.ratio for row in exact if row.what.startswith("whole plan")]
    return f"inference_speed: whole plans {min(whole):.2f} to {max(whole):.2f} times faster than plainly"


if __name__ == "__main__":
    sys.exit(main())
