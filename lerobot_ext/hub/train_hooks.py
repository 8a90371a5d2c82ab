# SPDX-License-Identifier: Apache-2.0
"""The one place where `lerobot-train` is changed: what its checkpoints say, and how they reach the Hub.

Stock pushes a policy in three commits (policy with card, preprocessor, postprocessor) and the card names no
package. Here:

- the functions that the script calls are wrapped, to know the processors and to leave `lerobot_ext.json`
  beside each saved policy; losses and evaluations come from the one observer of the loop, `training/loop.py`;
- `PreTrainedPolicy.push_model_to_hub` still saves the policy its own way (PEFT and FSDP too). Its upload gets
  the processors, `lerobot_ext.json`, our card and the picture added and becomes one commit;
- the two pushes that follow find their files in that commit and do nothing. If a file differs, they are
  stock's.

Reward models keep stock's push. `uninstall` puts everything back. Other LeRobot versions than those tested
are left alone, with one line.
"""

import hashlib
import inspect
import logging
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import huggingface_hub
from lerobot.policies import pretrained
from lerobot.policies.pretrained import PreTrainedPolicy

from lerobot_ext.hub import checkpoint, requirements
from lerobot_ext.hub.card import add_requirements
from lerobot_ext.hub.describe import describe
from lerobot_ext.hub.history import TrainingHistory, evaluations_of
from lerobot_ext.hub.push import PushError, open_repository, push_files
from lerobot_ext.patches import Patch, Place, replaced
from lerobot_ext.training import loop

MESSAGE = "Upload policy, processors, requirements and card"

logger = logging.getLogger(__name__)


@dataclass
class _Run:
    """One training in this process.

    Args:
        pipelines (`list`): Pre- and postprocessor.
        source (`str`): The checkpoint they were loaded from; empty for a new policy.
        history (`TrainingHistory`): What was seen so far.
    """

    pipelines: list[Any]
    source: str
    history: TrainingHistory = field(default_factory=TrainingHistory)


class _Noter(loop.LoopObserver):
    """Notes losses and evaluations for the card."""

    def logged(self, run: loop.TrainingRun, step: int, metrics: Mapping[str, float]) -> None:
        """Note the loss."""
        if _run is not None and "loss" in metrics:
            _run.history.add_loss(step, float(metrics["loss"]))

    def evaluated(self, run: loop.TrainingRun, step: int, info: Mapping[str, Any]) -> None:
        """Note the episodes."""
        if _run is None:
            return
        try:
            _run.history.add_evaluations(evaluations_of(dict(info), step))
        except ValueError as error:
            logger.warning("lerobot_ext: an evaluation will not be in the model card: %s", error)


_run: _Run | None = None
_noter = _Noter()
_patch = Patch(
    "lerobot-train",
    lost="checkpoints get no lerobot_ext.json, and a push is LeRobot's own three commits",
)


def install(script: ModuleType) -> bool:
    """Put the hooks into the training script; calling it again changes nothing.

    Args:
        script (`ModuleType`): `lerobot.scripts.lerobot_train`, under whatever name it runs.

    Returns:
        Whether they are in place: not with a LeRobot outside the tested window, which is logged.
    """
    if _patch.installed:
        return True
    replacements: dict[Place, Any] = {
        (script, "make_pre_post_processors"): _make_pre_post_processors,
        (script, "save_checkpoint"): _save_checkpoint,
        (PreTrainedPolicy, "push_model_to_hub"): _push_model_to_hub,
    }
    if not _patch.install(replacements):
        return False
    loop.observe(_noter, script)
    return True


def uninstall() -> None:
    """Give LeRobot its own code back."""
    global _run
    _patch.uninstall()
    loop.forget(_noter)
    _run = None


def _make_pre_post_processors(*words: Any, **named: Any) -> tuple[Any, Any]:
    """Stock's, with its result kept: a push has to find the processors."""
    global _run
    pipelines = _patch.stock("make_pre_post_processors")(*words, **named)
    _run = _Run(list(pipelines), str(named.get("pretrained_path") or ""))
    return pipelines  # type: ignore[no-any-return]


def _save_checkpoint(*words: Any, **named: Any) -> None:
    """Stock's, and `lerobot_ext.json` beside the policy."""
    _patch.stock("save_checkpoint")(*words, **named)
    given = inspect.signature(_patch.stock("save_checkpoint")).bind(*words, **named).arguments
    cfg = given["cfg"]
    if _run is None or cfg.is_reward_model_training:
        return
    try:
        dataset_meta = getattr(cfg.policy, "_runtime_dataset_meta", None)
        needs = _describe(given["policy"], cfg, dataset_meta, given["step"])
        needs.save(Path(given["checkpoint_dir"]) / "pretrained_model")
    except Exception as error:  # noqa: BLE001 - a training must not end because a note could not be written
        logger.warning(
            "lerobot_ext: %s does not say what it needs: lerobot_ext.json could not be written (%s: %s).",
            given["checkpoint_dir"],
            type(error).__name__,
            error,
        )


def _push_model_to_hub(self: PreTrainedPolicy, *words: Any, **named: Any) -> Any:
    """Stock's, with its upload turned into the one commit of everything."""
    stock = _patch.stock("push_model_to_hub")
    if _run is None:
        return stock(self, *words, **named)
    given = inspect.signature(stock).bind(self, *words, **named).arguments
    upload = _Upload(_run, self, given.get("peft_model") or self, given["cfg"], given.get("dataset_meta"))
    with replaced(pretrained, HfApi=upload.client, ModelCard=_CardCheckedAtCommit):
        return stock(self, *words, **named)


class _CardCheckedAtCommit(huggingface_hub.ModelCard):  # type: ignore[misc]
    """A card that is not checked at a hard-coded address: the commit checks what goes out, at its own Hub."""

    def validate(self, repo_type: str | None = None) -> None:
        """Leave it to the commit."""


@dataclass
class _Upload:
    """What `push_model_to_hub` gets in place of a client: nothing leaves before all files are there."""

    run: _Run
    policy: Any
    owner: Any
    cfg: Any
    dataset_meta: Any

    def client(self, *words: Any, **named: Any) -> "_Upload":
        """The `HfApi()` of stock's code."""
        self.api = huggingface_hub.HfApi(*words, **named)
        self.private: bool | None = None
        return self

    def create_repo(self, *, repo_id: str, private: bool | None = None, **_: Any) -> SimpleNamespace:
        """Remember how the repository is to be; without the Hub the policy still gets saved."""
        self.private = private
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(self, *, repo_id: str, folder_path: str | Path, **_: Any) -> Any:
        """Add what is missing and push everything."""
        folder = Path(folder_path)
        for pipeline in self.run.pipelines:
            pipeline.save_pretrained(folder)
        needs = _describe(self.owner, self.cfg, self.dataset_meta, self.cfg.steps)
        needs.save(folder)
        try:
            full_id = open_repository(self.api, repo_id, self.private)
            self._write_card(folder, needs, full_id)
            if base := checkpoint.adapted_folder(folder):
                logger.warning(checkpoint.LOCAL_BASE, base)
            files = checkpoint.files_of(folder)
            commit = push_files(self.api, full_id, files, MESSAGE)
        except PushError as error:
            remedy = f"{error.remedy}; then `lerobot-ext push {self._kept(folder)} {repo_id}{self._flag()}`"
            logger.error("lerobot_ext: nothing was pushed: %s. Remedy: %s", error, remedy)
            raise PushError(f"{error}. Remedy: {remedy}", remedy) from error
        pushed = {name: _sha256(path) for name, path in files.items()}
        for pipeline in self.run.pipelines:
            # On these two objects alone: any other push of theirs is stock's.
            pipeline.push_to_hub = _Already(pipeline, repo_id, pushed, commit)
        return commit

    def _write_card(self, folder: Path, needs: requirements.Requirements, repo_id: str) -> None:
        """Card and picture, beside what stock has saved."""
        card = folder / checkpoint.CARD
        stock_card = huggingface_hub.ModelCard.load(card)
        if type(self.policy).generate_model_card is PreTrainedPolicy.generate_model_card:
            checkpoint.complete(folder, needs, folder, repo_id, base=stock_card.data.to_dict())
        else:
            # A plugin that writes a card of its own keeps it.
            text = add_requirements(card.read_text(encoding="utf-8"), needs, repo_id)
            card.write_text(text, encoding="utf-8")

    def _kept(self, folder: Path) -> Path:
        """A folder that keeps what was not pushed: the last checkpoint, or a copy."""
        saved = Path(self.cfg.output_dir) / "checkpoints" / "last" / "pretrained_model"
        if saved.is_dir():
            return saved
        kept = Path(self.cfg.output_dir) / "not_pushed"
        shutil.copytree(folder, kept, dirs_exist_ok=True)
        return kept

    def _flag(self) -> str:
        return " --private" if self.private else ""


@dataclass
class _Already:
    """A processor's `push_to_hub` after the commit that holds its files."""

    pipeline: Any
    repo_id: str
    pushed: dict[str, str]
    commit: Any

    def __call__(self, repo_id: str, **named: Any) -> Any:
        """Push only if that would change anything."""
        if repo_id == self.repo_id and not named:
            with tempfile.TemporaryDirectory() as folder:
                self.pipeline.save_pretrained(folder)
                if all(self.pushed.get(path.name) == _sha256(path) for path in Path(folder).iterdir()):
                    return self.commit
        return type(self.pipeline).push_to_hub(self.pipeline, repo_id, **named)


def _describe(policy: Any, cfg: Any, dataset_meta: Any, step: int) -> requirements.Requirements:
    assert _run is not None  # the callers have looked
    return describe(policy, _run.pipelines, cfg, dataset_meta, step, _whole_history(_run, cfg))


def _whole_history(run: _Run, cfg: Any) -> TrainingHistory:
    """What this process saw, after what the checkpoint it resumes from has noted."""
    whole = TrainingHistory()
    if cfg.resume and run.source:
        try:
            noted = requirements.read_requirements(Path(run.source) / requirements.FILE_NAME)
            whole = TrainingHistory.from_json(noted.history)
        except FileNotFoundError:
            pass  # trained without us so far
        except ValueError as error:
            logger.warning("lerobot_ext: the training before this one will not be in the card: %s", error)
    for step, loss in run.history.loss:
        whole.add_loss(step, loss)
    for entry in run.history.evaluations:
        whole.add_evaluations([entry])
    return whole


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
