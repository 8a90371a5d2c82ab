# SPDX-License-Identifier: Apache-2.0
"""The work of `lerobot-ext export-graph`: trace, write, run what was written, compare."""

from __future__ import annotations

import json
import logging
import statistics
import sys
import time
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lerobot_ext.cli.command import CommandError

from ..configuration_hierarchical_diffusion import MAX_INFERENCE_STEPS
from ..loading import load_policy
from ..modeling_hierarchical_diffusion import HierarchicalDiffusionPolicy
from .plan_graph import OUTPUTS, PlanGraph, embed_task

TOLERANCE = 1e-4
"""In the normalised action space: a hundredth of a percent of the demonstrations' range."""
_OPSET = 20
_TIMED = 30

Inputs = tuple[Tensor, Tensor | None, list[Tensor], Tensor, Tensor, Tensor]


def export(args: Namespace) -> dict[str, Any]:
    """Write the graph and its description, and compare what was written with the policy.

    Raises:
        CommandError: There is no such policy, it cannot plan so, a package is missing, or the graph gives
            another plan than the policy; then nothing is left at `--out`.
    """
    policy = load_policy(args.path, "cpu")
    steps = policy.config.num_inference_steps if args.steps is None else args.steps
    layers = len(policy.config.layers) if args.layers is None else args.layers
    _check(policy, layers, steps, args.out)
    network = (policy.average if policy.average is not None else policy.network).eval()
    graph = PlanGraph(network, layers, steps).eval()
    inputs = example_inputs(policy, embed_task(network, args.task))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with _quiet():
        run = (
            _write_onnx(graph, inputs, args.out)
            if args.out.suffix == ".onnx"
            else _write_pt2(graph, inputs, args.out)
        )
        difference = _difference(graph, run, policy)
    if not difference <= TOLERANCE:
        args.out.unlink()
        raise CommandError(
            f"the graph's plan differs from the policy's by {difference:.1e}, more than {TOLERANCE:.0e}",
            "try the other format, and report this with the checkpoint's config.json",
        )
    description = args.out.with_suffix(".json")
    description.write_text(json.dumps(_describe(policy, args, layers, steps, inputs), indent=2) + "\n")
    with torch.no_grad():
        policy_ms = _median_ms(lambda: graph(*inputs))
    return {
        "file": args.out,
        "bytes": args.out.stat().st_size,
        "description": description,
        "largest_difference": difference,
        "graph_ms": _median_ms(lambda: run(inputs)),
        "policy_ms": policy_ms,
    }


def example_inputs(policy: HierarchicalDiffusionPolicy, task: Tensor, seed: int = 0) -> Inputs:
    """Random inputs of the graph's shapes for one robot."""
    generator = torch.Generator().manual_seed(seed)
    network, config = policy.network, policy.config

    def draw(*shape: int) -> Tensor:
        return torch.randn(1, *shape, generator=generator)

    frames = len(network.window.past)
    images = [draw(config.n_obs_steps, *feature.shape) for feature in config.image_features.values()]
    environment = draw(frames, network.env_dim) if network.env_dim else None
    known = torch.ones(1, 1)
    last_action = torch.cat([draw(network.action_dim), known], dim=-1)
    noise = draw(config.horizon, network.action_dim)
    return draw(frames, network.state_dim), environment, images, task, last_action, noise


def _check(policy: HierarchicalDiffusionPolicy, layers: int, steps: int, out: Path) -> None:
    names = policy.config.layers
    fewest = int("safety" in names)
    if not fewest <= layers <= len(names):
        raise CommandError(f"--layers is {layers}", f"give {fewest} to {len(names)}")
    if not 0 <= steps <= MAX_INFERENCE_STEPS:
        raise CommandError(f"--steps is {steps}", f"give 0 to {MAX_INFERENCE_STEPS}")
    if steps == 0 and "manipulation" not in names[:layers]:
        raise CommandError("--steps is 0, and without the manipulation layer there is no draft", "--steps 1")
    untrained = set(names[:layers]) - policy.network.trained_layers()
    if untrained:
        raise CommandError(
            f"--layers {layers} has {', '.join(sorted(untrained))}, which the curriculum never let take part",
            "give fewer, or train to the curriculum's end",
        )
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if out.suffix == ".onnx" and missing:
        raise CommandError(f"ONNX needs {', '.join(missing)}", f"pip install {' '.join(missing)}")


def _write_pt2(graph: PlanGraph, inputs: Inputs, path: Path) -> Callable[[Inputs], list[Tensor]]:
    with torch.no_grad():
        torch.export.save(torch.export.export(graph, inputs), path)
    loaded = torch.export.load(path).module()
    return lambda given: list(loaded(*given))


def _write_onnx(graph: PlanGraph, inputs: Inputs, path: Path) -> Callable[[Inputs], list[Tensor]]:
    with torch.no_grad():
        program = torch.onnx.export(
            graph, inputs, dynamo=True, opset_version=_OPSET, output_names=list(OUTPUTS), verbose=False
        )
    assert program is not None
    program.save(path, external_data=False)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def run(given: Inputs) -> list[Tensor]:
        flat = [*given[:1], *([] if given[1] is None else [given[1]]), *given[2], *given[3:]]
        fed = dict(zip(names, (tensor.numpy() for tensor in flat), strict=True))
        return [torch.from_numpy(array) for array in session.run(None, fed)]

    return run


def _difference(
    graph: PlanGraph, run: Callable[[Inputs], list[Tensor]], policy: HierarchicalDiffusionPolicy
) -> float:
    """Largest difference of chunk and score over some random inputs."""
    worst = 0.0
    for seed in range(3):
        task = embed_task(graph.network, f"task {seed}")
        given = example_inputs(policy, task, seed)
        with torch.no_grad():
            expected = graph(*given)
        for theirs, ours in zip(run(given)[:2], expected[:2], strict=True):
            worst = max(worst, float((theirs - ours).abs().max()))
    return worst


def _describe(
    policy: HierarchicalDiffusionPolicy, args: Namespace, layers: int, steps: int, inputs: Inputs
) -> dict[str, Any]:
    """What whoever runs the graph has to know."""
    config = policy.config
    state, environment, images, task, last_action, noise = inputs
    cameras = {name: list(image.shape) for name, image in zip(config.image_features, images, strict=True)}
    return {
        "policy": str(args.path),
        "layers": list(config.layers[:layers]),
        "denoising_steps": steps,
        "inputs": {
            "state": list(state.shape),
            "environment": None if environment is None else list(environment.shape),
            "images": cameras,
            "task": list(task.shape),
            "last_action": list(last_action.shape),
            "noise": list(noise.shape),
        },
        "state_offsets": list(policy.network.window.past),
        "image_offsets": list(range(1 - config.n_obs_steps, 1)),
        "normalization": "inputs are normalised and the chunk is to be unnormalised as in "
        "policy_preprocessor.json and policy_postprocessor.json beside the checkpoint",
        "outputs": list(OUTPUTS),
        "task": args.task,
        "task_embedding": task[0].tolist(),
    }


def _median_ms(function: Callable[[], object]) -> float:
    times = []
    for _ in range(3 + _TIMED):
        started = time.perf_counter()
        function()
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times[3:])


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters print and warn about what is not the user's business."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
