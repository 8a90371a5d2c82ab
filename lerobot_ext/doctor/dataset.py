# SPDX-License-Identifier: Apache-2.0
"""`lerobot-ext doctor --dataset.repo_id=…`: whether a dataset is whole, decodes, and suits a policy."""

import json
import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lerobot_ext.cli.command import CommandError
from lerobot_ext.doctor.extension import DoctorCheck
from lerobot_ext.doctor.findings import Finding, Fix, Section, note, problem, problems_first

if TYPE_CHECKING:
    from lerobot_ext.doctor.child import Answer
    from lerobot_ext.doctor.dataset_content import Content
    from lerobot_ext.repair.survey import Survey

_STATS: Final = "meta/stats.json"
_COLUMNS: Final = ("timestamp", "frame_index", "episode_index", "index", "task_index")
_CAUSES: Final = ("no footer", "missing", "cut short", "cannot be read", "is missing")
"""What is wrong with a file itself; the rest follows from that."""

AskVideos = Callable[[list[dict[str, Any]]], "Answer"]
AskPolicy = Callable[[dict[str, Any]], "Answer"]


def _configure(parser: ArgumentParser) -> None:
    group = parser.add_argument_group(
        "a dataset",
        "with --policy.path or --policy.type: also whether they fit each other\n"
        "example: lerobot-ext doctor --dataset.repo_id=me/koch_lift --policy.type=act",
    )
    group.add_argument("--dataset.repo_id", metavar="REPO", help="below $HF_LEROBOT_HOME, or a folder")
    group.add_argument("--dataset.root", metavar="DIR", help="its folder, if it is elsewhere")


def _applies(args: Namespace) -> bool:
    return any(getattr(args, f"dataset.{name}") is not None for name in ("repo_id", "root"))


def _examine(args: Namespace) -> list[Section]:
    from lerobot_ext.cli.look import progress
    from lerobot_ext.doctor.dataset_pictures import ask_child
    from lerobot_ext.doctor.fit import ask_policy

    repo_id, root = getattr(args, "dataset.repo_id"), getattr(args, "dataset.root")
    folder = find_dataset(repo_id, root)
    with progress() as bar:
        task = bar.add_task(f"Looking at {folder.name}", total=None)

        def step(what: str, total: int) -> None:
            bar.update(task, total=total, advance=1, description=f"Looking at {what}")

        def ask_videos(jobs: list[dict[str, Any]]) -> "Answer":
            bar.update(task, total=None, description=f"Decoding frames of {len(jobs)} videos")
            return ask_child(jobs)

        policy = {
            "path": getattr(args, "policy.path"),
            "type": getattr(args, "policy.type"),
            "revision": getattr(args, "policy.pretrained_revision"),
        }
        return examine(folder, repo_id or str(folder), policy, ask_videos, ask_policy, step)


def find_dataset(repo_id: str | None, root: str | None) -> Path:
    """The folder of a dataset; nothing is downloaded.

    Raises:
        CommandError: There is none here.
    """
    from lerobot_ext.repair.command import find_dataset as find_local

    if root is not None:
        if not (Path(root) / "meta").is_dir():
            raise CommandError(
                f"--dataset.root={root} holds no folder `meta`",
                "give the folder that holds `meta`, `data` and `videos`",
            )
        return Path(root).resolve()
    name = str(repo_id)
    try:
        return find_local(name)
    except CommandError as error:
        downloaded = _downloaded(name)
        if downloaded is not None:
            return downloaded
        raise CommandError(
            str(error),
            f"{error.remedy}; one of the Hub: `hf download --repo-type dataset {name} --local-dir DIR`",
        ) from None


def _downloaded(name: str) -> Path | None:
    """The snapshot of a dataset that LeRobot has downloaded."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError
    from lerobot.utils.constants import HF_LEROBOT_HUB_CACHE

    for revision in ("v3.0", "main"):
        try:
            found = try_to_load_from_cache(
                name, "meta/info.json", cache_dir=HF_LEROBOT_HUB_CACHE, repo_type="dataset", revision=revision
            )
        except HFValidationError:
            return None
        if isinstance(found, str):
            return Path(found).parent.parent
    return None


def examine(
    root: Path,
    name: str,
    policy: dict[str, Any],
    ask_videos: AskVideos,
    ask_policy: AskPolicy,
    step: Callable[[str, int], None] = lambda what, total: None,
) -> list[Section]:
    """The section about a dataset, and one about how it fits a policy if one is named; nothing is changed.

    Args:
        root (`Path`): Its folder.
        name (`str`): How the user named it.
        policy (`dict`): `path` and `type` of a policy, or `None` each.
        ask_videos (`Callable`): Has videos decoded by a child; tests decode in their own process.
        ask_policy (`Callable`): Has a child build the policy's configuration; tests build it themselves.
        step (`Callable`, *optional*): Called before each file.
    """
    from lerobot_ext.data.journal_files import recording_process
    from lerobot_ext.repair.survey import survey

    pid = recording_process(root)
    if pid is not None:
        raise CommandError(f"{root} is being recorded at this moment, by process {pid}", "let it finish")
    try:
        _refuse_malformed(root)
        surveyed = survey(root, step)
    except CommandError as error:
        unreadable = problem("dataset_unreadable", name, str(error), error.remedy)
        return [Section("dataset", name, [unreadable], {"root": str(root)})]
    damaged = [item for item in surveyed.findings if item.path != _STATS]
    if damaged:
        return [_damaged(surveyed, name)]
    section, content, stats = _whole(surveyed, name, ask_videos)
    if not (policy["path"] or policy["type"]):
        return [section]
    from lerobot_ext.doctor import fit

    return [section, fit.examine(surveyed, name, stats, content, policy, ask_policy)]


def _refuse_malformed(root: Path) -> None:
    """Raise when `info.json` is JSON, but not what LeRobot writes.

    Raises:
        CommandError: It names the field.
    """
    from lerobot_ext.repair.contents import read_info

    raw = read_info(root).raw
    wrong = ""
    if type(raw["fps"]) not in (int, float) or raw["fps"] <= 0:
        wrong = f"`fps` is {raw['fps']!r}"
    for key in ("total_episodes", "total_frames", "total_tasks"):
        if type(raw.get(key, 0)) is not int:
            wrong = wrong or f"`{key}` is {raw[key]!r}"
    for key in ("data_path", "video_path"):
        wrong = wrong or _wrong_pattern(key, raw)
    features = raw["features"]
    for key, entry in features.items() if isinstance(features, dict) else ():
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if not (isinstance(shape, list) and all(type(n) is int and n > 0 for n in shape)):
            wrong = wrong or f"feature {key!r} has shape {shape!r}"
        elif not isinstance(entry.get("dtype"), str):
            wrong = wrong or f"feature {key!r} has dtype {entry.get('dtype')!r}"
        elif not isinstance(entry.get("info") or {}, dict):
            wrong = wrong or f"feature {key!r} has info {entry['info']!r}"
    if not isinstance(features, dict) or not set(_COLUMNS) <= set(features):
        wrong = wrong or f"`features` lacks {', '.join(_COLUMNS)} or is no object"
    if wrong:
        raise CommandError(f"meta/info.json is not what LeRobot writes: {wrong}", "restore it from a copy")


def _wrong_pattern(key: str, raw: dict[str, Any]) -> str:
    """What is wrong with the pattern of file names in `info.json`; empty if nothing."""
    pattern: Any = raw.get(key)
    if pattern is None and key == "video_path" and '"video"' not in json.dumps(raw["features"]):
        return ""
    try:
        names = {pattern.format(chunk_index=number, file_index=number, video_key="k") for number in (0, 1)}
    except (AttributeError, KeyError, IndexError, ValueError, TypeError):
        names = set()
    return "" if len(names) == 2 else f"`{key}` is {pattern!r}"


def _damaged(surveyed: "Survey", name: str) -> Section:
    """What `lerobot-ext repair` can mend; the rest is looked at once it is whole."""
    root = shlex.quote(str(surveyed.root))
    items = [item for item in surveyed.findings if item.path != _STATS]
    items.sort(key=lambda item: not item.problem.startswith(_CAUSES))
    lost = surveyed.n_known - len(surveyed.kept)
    shown = "; ".join(f"{item.path}: {item.problem}" for item in items[:4])
    more = f"; and {len(items) - 4} more" if len(items) > 4 else ""
    kept = (
        f"{len(surveyed.kept)} of {surveyed.n_known} episodes are whole" if lost else "every episode is whole"
    )
    finding = problem(
        "dataset_damaged",
        items[0].path,
        f"{shown}{more} ({kept})",
        f"`lerobot-ext repair {root} --dry-run` says what it would do; `--fix` repairs it, with a backup",
        fix="repair",
    )
    fix = Fix(
        "repair",
        f"repair {surveyed.root} with a backup beside it: {len(items)} files",
        lambda: _repair(surveyed),
    )
    return Section("dataset", name, [finding], _facts(surveyed), _lines(surveyed, []), fixes=[fix])


def _repair(surveyed: "Survey") -> str:
    from lerobot_ext.doctor.dataset_fix import refuse_snapshot
    from lerobot_ext.repair.mend import back_up, backup_path, mend

    refuse_snapshot(surveyed.root)
    backup = backup_path(surveyed.root)
    back_up(surveyed.root, backup)
    mend(surveyed)
    return f"repaired it: {len(surveyed.kept)} whole episodes; as it was before: {backup}"


def _whole(surveyed: "Survey", name: str, ask_videos: AskVideos) -> "tuple[Section, Content, dict[str, Any]]":
    """Everything about a dataset whose files agree."""
    from lerobot_ext.doctor import dataset_content, dataset_pictures
    from lerobot_ext.repair.contents import data_files

    root, info = surveyed.root, surveyed.info
    files = list(data_files(root))
    content = dataset_content.read_content(root, info, files)
    stats, why = dataset_content.read_stats(root)
    findings = [
        *dataset_content.about_rows(content, info, root, name),
        *dataset_content.about_stats(stats, why, content, info),
        *_about_tasks(surveyed, name),
        *dataset_pictures.about_images(root, info, files, name),
    ]
    jobs = dataset_pictures.video_jobs(root, info, surveyed.kept)
    answer = ask_videos(jobs).value if jobs else {"backends": [], "results": []}
    findings += dataset_pictures.about_videos(root, info, jobs, answer, name)
    facts = _facts(surveyed) | {"videos_decoded": len(jobs), "backends": answer["backends"]}
    section = Section(
        "dataset",
        name,
        problems_first(findings),
        facts,
        _lines(surveyed, answer["backends"]),
        fixes=dataset_content.recomputing(surveyed, _to_recompute(surveyed, findings, why)),
    )
    return section, content, stats


def _to_recompute(surveyed: "Survey", findings: list[Finding], why: str) -> list[str]:
    """Features whose statistics findings name; all of them when the file is gone."""
    from lerobot_ext.doctor.dataset_content import has_statistics

    if why:
        return [key for key, entry in surveyed.info.raw["features"].items() if has_statistics(entry)]
    return [finding.subject for finding in findings if finding.fix == "recompute_stats"]


def _about_tasks(surveyed: "Survey", name: str) -> list[Finding]:
    from lerobot_ext.doctor.dataset_content import edit_command

    blank = {
        str(task): index for task, index in surveyed.tasks["task_index"].items() if not str(task).strip()
    }
    if not blank:
        return []
    texts = json.dumps(dict.fromkeys(blank, "what the robot does"))
    command = edit_command(surveyed.root, name, "modify_tasks", task_replacements=texts)
    return [
        note(
            "task_blank",
            "meta/tasks.parquet",
            f"task {', '.join(map(str, blank.values()))} has no text: a policy that reads it learns nothing "
            "from it",
            f"give it a text: `{command}`; record with `--dataset.single_task='…'`",
        )
    ]


def _facts(surveyed: "Survey") -> dict[str, Any]:
    raw = surveyed.info.raw
    return {
        "root": str(surveyed.root),
        "episodes": len(surveyed.kept),
        "frames": surveyed.n_frames,
        "fps": raw["fps"],
        "tasks": len(surveyed.tasks),
        "cameras": [key for key, entry in raw["features"].items() if entry["dtype"] in ("image", "video")],
    }


def _lines(surveyed: "Survey", backends: list[str]) -> list[str]:
    facts = _facts(surveyed)
    lines = [
        f"{facts['episodes']} episodes, {facts['frames']} frames at {facts['fps']} fps, tasks: "
        f"{facts['tasks']}, cameras: {', '.join(facts['cameras']) or 'none'}"
    ]
    return [*lines, f"frames decoded with {' and '.join(backends)}"] if backends else lines


CHECK = DoctorCheck(name="dataset", configure=_configure, applies=_applies, examine=_examine)
