# SPDX-License-Identifier: Apache-2.0
"""Shows a mix: as text, as JSON, as a picture."""

from collections.abc import Iterator
from typing import Any

from lerobot_ext.cli.look import table
from lerobot_ext.mixing.features import OWN
from lerobot_ext.mixing.survey import Mix


def as_json(mix: Mix) -> dict[str, Any]:
    """Everything that `show` shows."""
    return {
        "file": mix.path.resolve(),
        "name": mix.spec.name,
        "weights": mix.spec.weights,
        "epoch_size": mix.spec.epoch_size or mix.frames,
        "datasets": [
            {
                "repo_id": part.spec.repo_id,
                "label": part.label,
                "root": part.meta.root,
                "revision": part.meta.revision,
                "robot_type": part.meta.robot_type,
                "fps": part.meta.fps,
                "episodes": len(part.episodes),
                "first_episode_in_mix": first,
                "frames": part.frames,
                "weight": part.spec.weight,
                "share": float(share),
                "draws_of_a_frame": _draws_of_a_frame(mix, part.frames, float(share)),
                "task_ids": list(dict.fromkeys(part.task_ids)),
            }
            for (first, part), share in zip(_numbered(mix), _shares(mix), strict=True)
        ],
        "tasks": dict(enumerate(mix.tasks)),
        "features": {
            name: {"dtype": feature["dtype"], "shape": list(feature.get("shape") or ())}
            for name, feature in mix.features.items()
            if name not in OWN
        },
        "notes": mix.notes,
        "problems": [{"where": p.where, "what": p.what, "remedy": p.remedy} for p in mix.problems],
    }


def show(mix: Mix, out: Any) -> None:
    """Write it for people.

    Args:
        mix (`Mix`): What to show.
        out (`rich.console.Console`): Where.
    """
    draws = mix.spec.epoch_size or mix.frames
    out.print(
        f"{mix.spec.name}: {len(mix.parts)} datasets, {mix.frames} frames, {draws} draws an epoch, "
        f"weights {mix.spec.weights}",
        markup=False,
    )
    rows = [
        (
            index,
            part.label,
            f"{first}-{first + len(part.episodes) - 1}",
            part.frames,
            f"{share:.1%}",
            f"{_draws_of_a_frame(mix, part.frames, float(share)):.2f}",
            ", ".join(map(str, dict.fromkeys(part.task_ids))),
        )
        for index, ((first, part), share) in enumerate(zip(_numbered(mix), _shares(mix), strict=True))
    ]
    columns = ("id", "dataset", "episodes", "frames", "share of draws", "draws of a frame/epoch", "tasks")
    out.print(table("", columns, rows))
    out.print(table("tasks", ("id", "text"), enumerate(mix.tasks)))
    features = [
        (name, feature["dtype"], "x".join(map(str, feature.get("shape") or ())))
        for name, feature in mix.features.items()
        if name not in OWN
    ]
    out.print(table("features", ("name", "type", "shape"), features))
    for note in mix.notes:
        out.print(f"note: {note}", markup=False)
    for problem in mix.problems:
        out.print(f"problem: {problem}", markup=False)
    if not mix.problems:
        out.print(f"train on it: lerobot-train --dataset.repo_id={mix.path} …", markup=False)


def draw(mix: Mix) -> Any:
    """A matplotlib figure: of each dataset its part of the frames beside its part of the draws."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 1.2 + 0.6 * len(mix.parts)), layout="constrained")
    axis = figure.subplots()
    places = range(len(mix.parts))
    frames = [100 * part.frames / max(mix.frames, 1) for part in mix.parts]
    axis.barh([place - 0.2 for place in places], frames, height=0.38, label="of the frames", color="C7")
    draws = [100 * float(share) for share in _shares(mix)]
    bars = axis.barh([place + 0.2 for place in places], draws, height=0.38, label="of the draws", color="C0")
    axis.bar_label(bars, fmt="%.1f %%", padding=3, fontsize=8)
    labels = [part.label.replace("$", r"\$") for part in mix.parts]
    axis.set_yticks(list(places), labels=labels)
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.set(xlabel="%", title=mix.spec.name.replace("$", r"\$"))
    axis.legend(fontsize=8)
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)
    return figure


def _numbered(mix: Mix) -> Iterator[tuple[int, Any]]:
    """Each part with the number that its first episode has in the mix."""
    first = 0
    for part in mix.parts:
        yield first, part
        first += len(part.episodes)


def _shares(mix: Mix) -> Any:
    return mix.shares() if mix.parts else []


def _draws_of_a_frame(mix: Mix, frames: int, share: float) -> float:
    return (mix.spec.epoch_size or mix.frames) * share / max(frames, 1)
