# SPDX-License-Identifier: Apache-2.0
"""The model card: packages a checkpoint needs, how to run it, what it was trained on, how well it does.

Everything comes from the checkpoint's own files: `config.json` and `lerobot_ext.json`. What is not known
there is not in the card.
"""

import json
from typing import Any

from lerobot_ext.hub.history import Evaluation, TrainingHistory
from lerobot_ext.hub.requirements import Requirements, install_line
from lerobot_ext.intervals import wilson_interval
from lerobot_ext.mixing.spec import is_spec_path

MARK = "<!-- Written by lerobot_ext from config.json and lerobot_ext.json. -->"
TAGS = ("lerobot", "lerobot_ext", "robotics")


def make_card(
    config: dict[str, Any],
    needs: Requirements,
    repo_id: str,
    picture: str | None = None,
    base: dict[str, Any] | None = None,
) -> str:
    """The text of a card, with its metadata.

    Args:
        config (`dict`): The policy's `config.json`.
        needs (`Requirements`): The checkpoint's `lerobot_ext.json`.
        repo_id (`str`): Where it will be, for the commands.
        picture (`str`, *optional*): Name of the picture beside the card.
        base (`dict`, *optional*): Metadata to start from, as LeRobot's own card has it.

    Returns:
        Markdown that `huggingface_hub.ModelCard` reads.
    """
    history = TrainingHistory.from_json(needs.history)
    body = [
        f"# {repo_id.rpartition('/')[2]}",
        MARK,
        _summary(needs),
        requirements_section(needs, repo_id),
        _run_section(config, needs, repo_id),
        _results_section(history, picture),
        _training_section(needs),
        _mixture_section(needs),
        _features_section(config),
    ]
    header = _header(config, needs, repo_id, history.evaluations, base or {})
    return f"---\n{header}\n---\n\n" + "\n\n".join(part for part in body if part) + "\n"


def add_requirements(card: str, needs: Requirements, repo_id: str) -> str:
    """A card that someone else wrote, with the packages added where they are not named yet."""
    if MARK in card:
        return card
    return f"{card.rstrip()}\n\n{MARK}\n\n{requirements_section(needs, repo_id)}\n"


def requirements_section(needs: Requirements, repo_id: str) -> str:
    """What to install, as a table and as a command."""
    rows = [
        f"| `{package.name}` | {package.version}{' (from source)' if package.editable else ''} "
        f"| {', '.join(f'`{part}`' for part in package.provides) or 'the command lines'} |"
        for package in needs.packages
    ]
    text = [
        "## Install",
        "Trained with, and needed to load it"
        + (f" (Python {needs.python}):" if needs.python else ":")
        + "\n\n| package | version | provides |\n|---|---|---|\n"
        + "\n".join(rows),
        f"```bash\n{install_line(needs.packages)}\n```",
        f"`lerobot-ext pull --policy.path={repo_id}` (of package `lerobot_ext`) says what is missing, "
        "checks every file, and installs nothing by itself.",
    ]
    if any(package.editable for package in needs.packages):
        text.append(
            "*From source*: installed from a folder, so that the version alone does not say which code ran."
        )
    if needs.unpackaged:
        parts = ", ".join(f"`{part}`" for part in needs.unpackaged)
        text.append(f"**No package provides {parts}**: ask the author for that code.")
    return "\n\n".join(text)


def _header(
    config: dict[str, Any],
    needs: Requirements,
    repo_id: str,
    evaluations: list[Evaluation],
    base: dict[str, Any],
) -> str:
    """The metadata, as the Hub's own client writes it."""
    from huggingface_hub import EvalResult, ModelCardData

    training = needs.training
    robot = training.get("dataset", {}).get("robot_type")
    tags = {*TAGS, needs.policy, *map(str, training.get("tags", [])), *map(str, config.get("tags") or [])}
    tags |= {str(tag) for tag in base.get("tags") or []} | ({str(robot)} if robot else set())
    values = {
        "license": config.get("license") or training.get("license") or base.get("license") or "apache-2.0",
        "library_name": "lerobot",
        "pipeline_tag": "robotics",
        "tags": sorted(tags),
        "base_model": training.get("base_model") or base.get("base_model"),
        "datasets": _linked_datasets(training.get("dataset", {})),
    }
    results = [
        EvalResult(
            task_type="robotics",
            task_name="robotics",
            dataset_type=entry.task,
            dataset_name=entry.task,
            metric_type="success_rate",
            metric_name="success rate, %",
            metric_value=round(100 * entry.successes / entry.episodes, 1),
        )
        for entry in _last_of_each(evaluations)
    ]
    if results:
        values |= {"model_name": repo_id.rpartition("/")[2], "eval_results": results}
    data = ModelCardData(**{key: value for key, value in values.items() if value})
    return str(data.to_yaml()).strip()


def _last_of_each(evaluations: list[Evaluation]) -> list[Evaluation]:
    """The newest evaluation of each task."""
    return list({entry.task: entry for entry in evaluations}.values())


def _linked_datasets(dataset: dict[str, Any]) -> list[str]:
    """The datasets that may have a page on the Hub: `local/…` and spec files would be dead links."""
    parts = dataset.get("mixture") or [dataset]
    names = [str(part["repo_id"]) for part in parts if part.get("repo_id")]
    known = [name for name in names if not name.startswith("local/") and not is_spec_path(name)]
    return list(dict.fromkeys(known))


def _mixture_section(needs: Requirements) -> str:
    """The datasets of a mix, and how often each was drawn."""
    mixture = needs.training.get("dataset", {}).get("mixture") or []
    rows = []
    for part in mixture:
        share, tasks = f"{100 * float(part.get('share') or 0):.1f} %", "; ".join(part.get("tasks") or [])
        cells = (f"`{part.get('repo_id')}`", share, part.get("episodes"), part.get("frames"))
        rows.append(f"| {' | '.join(map(_cell, (*cells, part.get('robot_type') or '', tasks)))} |")
    head = "| dataset | share of the draws | episodes | frames | robot | tasks |\n|---|---|---|---|---|---|\n"
    return "## Datasets\n\n" + head + "\n".join(rows) if rows else ""


def _summary(needs: Requirements) -> str:
    dataset = needs.training.get("dataset", {})
    text = f"Policy `{needs.policy}` for [LeRobot](https://github.com/huggingface/lerobot)"
    if "repo_id" in dataset:
        text += f", trained on `{dataset['repo_id']}`"
        if mixture := dataset.get("mixture"):
            text += f", a mix of {len(mixture)} datasets"
        if "episodes" in dataset:
            text += f" (episodes {dataset['episodes']}, frames {dataset['frames']}, {dataset['fps']} fps)"
        if dataset.get("robot_type"):
            text += f", robot `{dataset['robot_type']}`"
    if base := needs.training.get("base_model"):
        text += f", fine-tuned from `{base}`"
    return text + "."


def run_commands(config: dict[str, Any], needs: Requirements, path: str) -> list[str]:
    """The stock commands that run a checkpoint; what only its user knows stands in angle brackets.

    Args:
        config (`dict`): The policy's `config.json`.
        needs (`Requirements`): Its requirements; the facts in them fill the commands.
        path (`str`): For `--policy.path`.
    """
    dataset = needs.training.get("dataset", {})
    robot = dataset.get("robot_type") or "<robot>"
    tasks = dataset.get("tasks") or ["<what to do>"]
    # Two cameras at least, or `image` alone: names as LeRobot's features have them.
    names = [key.rpartition(".")[2] for key in config.get("input_features") or {} if ".images." in key]
    cameras = "{" + ", ".join(f"{name}: {{…}}" for name in names) + "}"
    rollout = [
        "lerobot-rollout --strategy.type=base",
        f"--policy.path={path}",
        f"--robot.type={robot} --robot.port=<port> --robot.id=<id>",
        *([f'--robot.cameras="{cameras}"'] if names else []),
        f"--task={json.dumps(tasks[0], ensure_ascii=False)} --duration=60",
    ]
    environment = needs.training.get("environment", {})
    kind = environment.get("type") or "<environment>"
    task = f" --env.task={environment['task']}" if environment.get("task") else ""
    evaluate = [
        "lerobot-eval",
        f"--policy.path={path}",
        f"--env.type={kind}{task} --eval.n_episodes=50 --eval.batch_size=10",
    ]
    return [" \\\n    ".join(words) for words in (rollout, evaluate)]


def _run_section(config: dict[str, Any], needs: Requirements, repo_id: str) -> str:
    rollout, evaluate = run_commands(config, needs, repo_id)
    text = "## Run\n\nThe robot or environment has to give the input features listed below. "
    text += f"On the robot:\n\n```bash\n{rollout}\n```\n\nIn simulation:\n\n```bash\n{evaluate}\n```"
    packages = needs.training.get("environment", {}).get("packages", [])
    names = [f"`{entry['name']}=={entry['version']}`" for entry in packages if entry.get("name") != "lerobot"]
    if names:
        text += f"\n\nThe environment comes from {', '.join(names)}."
    return text


def _results_section(history: TrainingHistory, picture: str | None) -> str:
    parts = []
    if history.evaluations:
        rows = []
        for entry in history.evaluations:
            low, high = wilson_interval(entry.successes, entry.episodes)
            rows.append(
                f"| {entry.task} | {'' if entry.step is None else entry.step} "
                f"| {entry.successes}/{entry.episodes} "
                f"| {100 * entry.successes / entry.episodes:.1f} % ({100 * low:.0f}-{100 * high:.0f} %) "
                f"| {'' if entry.mean_reward is None else f'{entry.mean_reward:g}'} |"
            )
        parts.append(
            "| task | step | successes | rate (95 % Wilson interval) | mean summed reward |\n"
            "|---|---|---|---|---|\n" + "\n".join(rows)
        )
    if history.loss:
        (first_step, first), (last_step, last) = history.loss[0], history.loss[-1]
        parts.append(f"Training loss: {first:.4g} at step {first_step}, {last:.4g} at step {last_step}.")
    if picture is not None:
        parts.append(f"![Training loss and success]({picture})")
    if not parts:
        return ""
    if not history.evaluations:
        parts.append("No evaluation was handed over.")
    return "\n\n".join(["## Results", *parts])


def _training_section(needs: Requirements) -> str:
    training, dataset = needs.training, needs.training.get("dataset", {})
    rows = {
        "dataset": dataset.get("repo_id"),
        "episodes": dataset.get("episodes"),
        "episodes used": dataset.get("episodes_used"),
        "frames": dataset.get("frames"),
        "frames per second": dataset.get("fps"),
        "robot": dataset.get("robot_type"),
        "tasks": "; ".join(dataset.get("tasks", [])) or None,
        "steps": training.get("steps"),
        "batch size": training.get("batch_size"),
        "seed": training.get("seed"),
        "optimizer": training.get("optimizer"),
        "learning rate": training.get("learning_rate"),
        "LeRobot": needs.lerobot or None,
    }
    lines = [f"| {name} | {_cell(value)} |" for name, value in rows.items() if value is not None]
    return "## Training\n\n| setting | value |\n|---|---|\n" + "\n".join(lines) if lines else ""


def _features_section(config: dict[str, Any]) -> str:
    rows = [
        f"| {side} | `{name}` | {feature.get('type', '')} | {tuple(feature.get('shape', ()))} |"
        for side in ("input", "output")
        for name, feature in (config.get(f"{side}_features") or {}).items()
        if isinstance(feature, dict)
    ]
    if not rows:
        return ""
    return "## Features\n\n| side | feature | type | shape |\n|---|---|---|---|\n" + "\n".join(rows)


def _cell(value: object) -> str:
    """A table cell: a vertical bar or a line break in it would end it."""
    return str(value).replace("|", "\\|").replace("\n", " ")
