# SPDX-License-Identifier: Apache-2.0
"""What each layer of a trained `hierarchical_diffusion` policy is worth to its denoiser.

Records held-out demonstrations (simulated), then computes the diffusion loss of the same frames with the same
noise with all layers, and with each layer's features replaced by its learned null. Prints a table of the rise
with 95 % intervals over episodes, and how well the safety layer tells injected violations from clean
histories (AUROC). Writes JSON and PNG.
Expected last line: `all layers nulled: +… %; violations told apart with AUROC …`.

    uv run python benchmarks/hierarchical_layers.py [--quick] [--episodes 12] [--seed 9000] [--out DIR] \
        --checkpoint quickstart_run/train/checkpoints/last/pretrained_model
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.datasets.factory import resolve_delta_timestamps
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.policies.factory import make_pre_post_processors
from lerobot_env_koch.demos.recorder import DemoOptions, record_demos
from lerobot_policy_hierarchical_diffusion import HierarchicalDiffusionPolicy
from lerobot_policy_hierarchical_diffusion.configuration_hierarchical_diffusion import LAYER_NAMES

BATCH = 64
VARIANTS: dict[str, tuple[str, ...]] = {
    "none": (),
    **{name: (name,) for name in LAYER_NAMES},
    "all four": LAYER_NAMES,
}


def held_out_batches(
    policy: HierarchicalDiffusionPolicy, checkpoint: Path, root: Path
) -> list[dict[str, Any]]:
    """Preprocessed batches of the dataset at `root`, in order."""
    config = policy.config
    windows = resolve_delta_timestamps(config, LeRobotDatasetMetadata("local/held_out", root=root))
    dataset = LeRobotDataset("local/held_out", root=root, delta_timestamps=windows)
    preprocess, _ = make_pre_post_processors(
        config,
        pretrained_path=str(checkpoint),
        preprocessor_overrides={"device_processor": {"device": "cpu"}},
    )
    loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, shuffle=False)
    return [preprocess(batch) for batch in loader]


@torch.no_grad()
def losses_by_variant(
    policy: HierarchicalDiffusionPolicy, batch: dict[str, Any], seed: int
) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Diffusion loss of each variant under the same noise, and clean and injected safety scores; all (B,)."""
    network = policy._network
    observation = policy.observation_from_batch(batch)
    frames = network.frames(observation)
    targets = policy._targets(batch, frames)
    torch.manual_seed(seed)
    inputs = network.layer_inputs(observation, frames)
    outputs = network.run_layers(inputs, targets)
    losses = {}
    for variant, nulled in VARIANTS.items():
        keep = torch.tensor([[float(name not in nulled) for name in LAYER_NAMES]]).expand(len(frames), -1)
        torch.manual_seed(seed)
        losses[variant] = network.diffusion_loss(network.condition(inputs, outputs, keep), targets)
    scores = outputs["safety"].info
    return losses, scores["score"], scores["injected_score"]


def auroc(negative: np.ndarray, positive: np.ndarray) -> float:
    """Chance that a positive scores higher than a negative (Mann-Whitney), ties counted half."""
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, side="left")
    tied = np.searchsorted(ordered, positive, side="right") - below
    return float((below + 0.5 * tied).mean() / len(negative))


def rise_percent(nulled: np.ndarray, full: np.ndarray, episodes: np.ndarray) -> tuple[float, float]:
    """Mean rise of the loss in per cent of the full one, and the half width of its 95 % interval.

    Frames of one episode resemble each other, so the interval is bootstrapped over episodes.
    """
    rng = np.random.default_rng(0)
    names = np.unique(episodes)
    sums = np.array([[(nulled - full)[episodes == e].sum(), full[episodes == e].sum()] for e in names])
    draws = sums[rng.integers(len(names), size=(2000, len(names)))].sum(1)
    low, high = np.percentile(100 * draws[:, 0] / draws[:, 1], [2.5, 97.5])
    return 100 * float(sums[:, 0].sum() / sums[:, 1].sum()), float(high - low) / 2


def draw(rises: dict[str, tuple[float, float]], path: Path) -> None:
    """Draw the rises with their intervals."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    axes.barh(list(rises), [r[0] for r in rises.values()], xerr=[r[1] for r in rises.values()], capsize=3)
    axes.invert_yaxis()
    axes.set(
        xlabel="rise of the held-out diffusion loss, %", title="Layer replaced by its null (simulated Koch)"
    )
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="a trained policy's pretrained_model folder"
    )
    parser.add_argument("--episodes", type=int, default=12, help="held-out demonstrations")
    parser.add_argument("--seed", type=int, default=9000, help="far from the seeds of training data")
    parser.add_argument("--task", default="lift")
    parser.add_argument("--quick", action="store_true", help="two episodes: only shows that it runs")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmarks"))
    args = parser.parse_args()
    if not (args.checkpoint / "config.json").exists():
        raise SystemExit(
            f"--checkpoint {args.checkpoint} holds no config.json; train one with the quickstart."
        )

    policy = HierarchicalDiffusionPolicy.from_pretrained(args.checkpoint).eval()
    pictures = bool(policy.config.image_features)
    with tempfile.TemporaryDirectory() as tmp:
        record_demos(
            DemoOptions(
                "local/held_out",
                Path(tmp) / "demos",
                task=args.task,
                episodes=2 if args.quick else args.episodes,
                seed=args.seed,
                images="image" if pictures else "none",
                environment_state=not pictures,
            )
        )
        batches = held_out_batches(policy, args.checkpoint, Path(tmp) / "demos")
        results = [losses_by_variant(policy, batch, args.seed + i) for i, batch in enumerate(batches)]
        episodes = np.concatenate([batch["episode_index"].numpy() for batch in batches])

    losses = {name: np.concatenate([losses[name].numpy() for losses, _, _ in results]) for name in VARIANTS}
    clean, injected = (np.concatenate([row[i].numpy() for row in results]) for i in (1, 2))
    rises = {
        name: rise_percent(losses[name], losses["none"], episodes) for name in VARIANTS if name != "none"
    }
    count = len(np.unique(episodes))
    print(f"| layer nulled | rise of the diffusion loss, {count} held-out episodes |\n|---|---|")
    for name, (mean, half) in rises.items():
        print(f"| {name} | {mean:+.0f} ± {half:.0f} % |")
    area = auroc(clean, injected)
    args.out.mkdir(parents=True, exist_ok=True)
    record = {
        "frames": len(episodes),
        "loss": float(losses["none"].mean()),
        "rise_percent": rises,
        "auroc": area,
    }
    (args.out / "hierarchical_layers.json").write_text(json.dumps(record, indent=2))
    draw(rises, args.out / "hierarchical_layers.png")
    print(f"all layers nulled: {rises['all four'][0]:+.0f} %; violations told apart with AUROC {area:.3f}")


if __name__ == "__main__":
    main()
