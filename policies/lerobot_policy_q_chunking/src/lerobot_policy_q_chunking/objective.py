# SPDX-License-Identifier: Apache-2.0
"""What a batch teaches: critics, and an actor of this package or another policy.

Legend: `B` batch, `H` chunk, `K` flattened chunk, `D` features, `E` critics, `S` samples.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import ACTION
from torch import Tensor

from lerobot_ext.offline_rl.batches import ChunkLabels
from lerobot_ext.offline_rl.chunks import hold_last
from lerobot_ext.offline_rl.critics import bootstrap_masks
from lerobot_ext.offline_rl.losses import Losses, expectile_loss, masked_mean

from .borrowed import Borrowed
from .configuration_q_chunking import QChunkingConfig
from .critic import ChunkCritic, folds, judges
from .flow import Condition, FlowActor
from .losses import advantage_weights, critic_loss, distill_loss, flow_loss
from .windows import Windows


class Batch(NamedTuple):
    """A batch as the losses read it.

    Attributes:
        whole (`dict`): As LeRobot gave it.
        view (`dict`): What the critics, and this package's actor, see of it.
        valid (`Tensor`): (B, H) bool.
        chunk (`Tensor`): (B, K) logged actions, held behind the end.
    """

    whole: dict[str, Any]
    view: dict[str, Any]
    valid: Tensor
    chunk: Tensor

    @property
    def counted(self) -> Tensor:
        """(B,) bool: samples that have an action."""
        return self.valid[:, 0]


class Objective:
    """The loss of a batch by the configured extraction.

    Args:
        config (`QChunkingConfig`): Extraction and its numbers.
        actor (`FlowActor` or `PreTrainedPolicy`): What is trained to act.
        critic (`ChunkCritic`, *optional*): What is trained to value; None where nothing is.
        critic_target (`ChunkCritic`, *optional*): Its slow copy.
        labels (`ChunkLabels`): Rewards, ends and bounds.
        windows (`Windows`): What each sees of a batch.
        borrowed (`Borrowed`, *optional*): How to ask the actor, where it is another policy.
    """

    def __init__(
        self,
        config: QChunkingConfig,
        actor: FlowActor | PreTrainedPolicy,
        critic: ChunkCritic | None,
        critic_target: ChunkCritic | None,
        labels: ChunkLabels,
        windows: Windows,
        borrowed: Borrowed | None,
    ) -> None:
        self.config, self.actor, self.labels, self.windows = config, actor, labels, windows
        self.critic, self.critic_target, self.borrowed = critic, critic_target, borrowed

    def losses(self, whole: dict[str, Any], *, augment: bool) -> tuple[Losses, dict[str, float]]:
        """The losses of a batch and, of another policy as the actor, the numbers that it logs."""
        view = self.windows.of_critics(whole)
        valid = self.labels.valid(view)
        batch = Batch(whole, view, valid, hold_last(view[ACTION], valid).flatten(1))
        if not self.config.learns_values:
            return self._cloning(batch, augment), {}
        assert self.critic is not None
        features = self.critic.observe(view, 0, augment=augment)
        if self.borrowed is not None:
            return self._with_borrowed(batch, features, augment)
        return self._with_flow(batch, features, augment), {}

    # ---- this package's actor ------------------------------------------------------------------------------

    def _cloning(self, batch: Batch, augment: bool) -> Losses:
        """`bc` and `filtered_bc`."""
        kept = batch.counted
        if self.config.extraction == "filtered_bc":
            kept = kept & self.labels.best(batch.view, self.config.filter_share)
        error = self._flow_error(self._own.observe(batch.view, 0, augment=augment), batch)
        return Losses(masked_mean(error, kept, "none"), {"bc_loss": _mean(error, kept)}, {})

    def _with_flow(self, batch: Batch, features: Tensor, augment: bool) -> Losses:
        """`distill`, `best_of_n` and `awr`."""
        cfg, counted = self.config, batch.counted
        condition = self._own.observe(batch.view, 0, augment=augment)
        with torch.no_grad():
            following = self._value_after(batch, augment)
        known = self._known(batch)
        error, reached = self._fit(batch, features, following, known)
        total, parts, values = error.total, dict(error.parts), dict(error.values)
        cloned = self._flow_error(condition, batch)
        parts["bc_loss"] = _mean(cloned, counted)
        weights = torch.ones_like(cloned)
        if cfg.weighs:
            weights = self._advantages(batch, known, reached, parts, values)
        total = total + cfg.bc_weight * masked_mean(weights * cloned, self._imitated(batch), "none")
        if cfg.extraction == "distill":
            total = total + self._distilled(condition, features, counted, parts, values)
        return Losses(total, parts, values)

    def _distilled(
        self,
        condition: Condition,
        features: Tensor,
        counted: Tensor,
        parts: dict[str, Tensor],
        values: dict[str, Tensor],
    ) -> Tensor:
        """The one-step actor's loss (B,) on every `distill_every`th sample, as a mean over these."""
        cfg, some = self.config, slice(None, None, self.config.distill_every)
        thin = Condition(condition.features[some], condition.context[some])
        distance, rising, raised = distill_loss(
            self._own, self._critic, thin, features[some].detach(), self._own.noise(thin), cfg.normalize_q
        )
        parts["distill_loss"] = _mean(distance, counted[some])
        values["q_of_actor"] = _mean(raised, counted[some])
        spread = torch.zeros_like(counted, dtype=distance.dtype)
        spread[some] = masked_mean(cfg.alpha * distance + rising, counted[some], "none")
        return spread * (len(spread) / len(distance))

    def _good(self, batch: Batch) -> Tensor | None:
        """(B,) bool: the samples of the episodes that are cloned; None for all of them."""
        level = self.config.cloned_return
        return self.labels.good(batch.whole, level) if level else None

    def _imitated(self, batch: Batch) -> Tensor:
        """(B,) bool: the samples whose chunks are cloned."""
        good = self._good(batch)
        return batch.counted if good is None else batch.counted & good

    def _flow_error(self, condition: Condition, batch: Batch) -> Tensor:
        noise = self._own.noise(condition)
        return flow_loss(self._own, condition, batch.chunk, batch.valid, noise, self._own.draw_time(noise))

    # ---- another policy ------------------------------------------------------------------------------------

    def _with_borrowed(
        self, batch: Batch, features: Tensor, augment: bool
    ) -> tuple[Losses, dict[str, float]]:
        cfg, counted = self.config, batch.counted
        assert self.borrowed is not None
        assert isinstance(self.actor, PreTrainedPolicy)
        if cfg.extraction == "best_of_n" and not self.borrowed.differ:
            self._refuse_without_choice(batch)
        with torch.no_grad():
            following = self._value_after(batch, augment)
        known = self._known(batch)
        error, reached = self._fit(batch, features, following, known)
        parts, values = dict(error.parts), dict(error.values)
        if cfg.freeze_actor:
            return Losses(error.total, parts, values), {}
        weights = None
        if cfg.weighs:
            weights = torch.where(counted, self._advantages(batch, known, reached, parts, values), 0.0)
        good = self._good(batch)
        if good is not None:
            imitated = counted & good
            per_frame = imitated * (counted.sum() / imitated.sum().clamp_min(1))
            weights = per_frame if weights is None else weights * per_frame
        view = self.windows.of_actor(batch.whole, self.borrowed.seen, self.borrowed.actions)
        own, log = self.borrowed.losses(self.actor, view, weights)
        parts["actor_loss"] = own.detach().mean()
        return Losses(error.total + cfg.bc_weight * own, parts, values), log

    @torch.no_grad()
    def _refuse_without_choice(self, batch: Batch) -> None:
        """Ask once for several chunks, which an actor that always plans the same one refuses.

        Its draws are its own, so that a resumed run, which asks again, goes on as the unbroken one.
        """
        device = batch.chunk.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            self._candidates(batch, later=False)

    # ---- values --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _known(self, batch: Batch) -> Tensor | None:
        """(B, D) of the observations now, from the slow critics; None where nothing asks for it."""
        if self.config.value_target != "data" and not self.config.weighs:
            return None
        assert self.critic_target is not None
        return self.critic_target.observe(batch.view, 0)

    def _fit(
        self, batch: Batch, features: Tensor, following: Tensor, known: Tensor | None
    ) -> tuple[Losses, Tensor]:
        """The critics' loss against returns and what follows; what the logged chunks came to (B,)."""
        targets = self.labels.targets(batch.view)
        wanted = self.labels.clamp(targets.returns + targets.bootstrap * following)
        q = self._critic(features, batch.chunk)
        loss = critic_loss(q, wanted, targets.usable, self._masks(batch))
        parts = {"critic_loss": loss.detach().mean(), "q_spread": q.detach().std(0, correction=0).mean()}
        values = {"q": _mean(q.detach().mean(0), batch.counted)}
        parts["usable"] = targets.usable.float().mean()
        if self.config.value_target == "data":
            assert known is not None
            fitted = self._fit_state_value(batch, features, known)
            loss = loss + fitted
            parts["value_loss"] = fitted.detach().mean()
        return Losses(loss, parts, values), self._reached(batch, targets.usable, wanted, q.detach())

    def _reached(self, batch: Batch, usable: Tensor, wanted: Tensor, q: Tensor) -> Tensor:
        """(B,) what each logged chunk came to: less noisy, for an advantage, than what critics say of it."""
        following = torch.where(usable, wanted, self._critic.joined(q))
        share = self.config.return_share
        earned = self.labels.earned(batch.whole) if share else None
        return following if earned is None else torch.lerp(following, earned.to(following.dtype), share)

    def _fit_state_value(self, batch: Batch, features: Tensor, known: Tensor) -> Tensor:
        """The loss (B,) that draws the values of states to those of the better logged chunks (IQL)."""
        slow = self.critic_target
        assert slow is not None
        with torch.no_grad():
            reached = slow.value(known, batch.chunk)
        taught = self._critic.state_value(features, self._learners(batch))
        wrong = expectile_loss(reached - taught, self.config.expectile)
        return masked_mean(wrong, batch.counted, "none")

    def _learners(self, batch: Batch) -> Tensor:
        """(B,) the value network that each sample's episode teaches; the other one judges it."""
        if "episode_index" not in batch.whole:
            raise ValueError(
                "`value_target` 'data' needs the frames' `episode_index`, which the batch lacks; set it to "
                "actor."
            )
        return folds(batch.whole["episode_index"].flatten())

    def _masks(self, batch: Batch) -> Tensor | None:
        cfg = self.config
        if cfg.bootstrap_probability >= 1.0:
            return None
        if "index" not in batch.whole:
            raise ValueError(
                "`bootstrap_probability` below 1 needs the frame's `index`, which the batch lacks; set it "
                "to 1."
            )
        return bootstrap_masks(batch.whole["index"].flatten(), cfg.n_critics, cfg.bootstrap_probability)

    def _value_after(self, batch: Batch, augment: bool) -> Tensor:
        """(B,) value, by the slow critics, of what the actor does after the chunk."""
        slow = self.critic_target
        assert slow is not None
        if self.config.value_target == "data":
            later = slow.observe(batch.view, 1, augment=augment)
            return slow.state_value(later, judges(self._learners(batch)))
        features = slow.observe(batch.view, 1, augment=augment)
        if self.config.extraction == "distill":
            condition = self._own.observe(batch.view, 1, augment=augment)
            chunk = self._own.leap(condition, self._own.noise(condition)).clamp(-1.0, 1.0)
            return slow.value(features, chunk)
        chunks = self._candidates(batch, later=True, augment=augment)
        if self.config.extraction == "awr":
            return slow.values(features, chunks).mean(1)
        # Chosen by the trained critics and valued by the slow ones, as QC does.
        chosen = self._critic.best(self._critic.observe(batch.view, 1, augment=augment), chunks)
        return slow.value(features, chosen)

    def _candidates(self, batch: Batch, *, later: bool, augment: bool = False) -> Tensor:
        """(B, S, K) chunks of the actor, now or after the logged chunk."""
        count = self.config.num_target_samples
        if self.borrowed is None:
            return self._own.sample(self._own.observe(batch.view, int(later), augment=augment), count)
        assert isinstance(self.actor, PreTrainedPolicy)
        view = self.windows.of_actor(batch.whole, self.borrowed.acting, self.borrowed.actions, later=later)
        return self.borrowed.sample(self.actor, view, count)

    @torch.no_grad()
    def _advantages(
        self,
        batch: Batch,
        known: Tensor | None,
        reached: Tensor,
        parts: dict[str, Tensor],
        values: dict[str, Tensor],
    ) -> Tensor:
        """AWR's weights (B,) of the logged chunks; says what they are."""
        slow = self.critic_target
        assert slow is not None
        assert known is not None
        if self.config.value_target == "data":
            usual = slow.state_value(known, judges(self._learners(batch)))
        else:
            usual = slow.values(known, self._candidates(batch, later=False)).mean(1)
        weights = advantage_weights(reached, usual, self.config.inverse_temperature)
        parts["weight"] = _mean(weights, batch.counted)
        values["v"] = _mean(usual, batch.counted)
        return weights

    @property
    def _own(self) -> FlowActor:
        assert isinstance(self.actor, FlowActor)
        return self.actor

    @property
    def _critic(self) -> ChunkCritic:
        assert self.critic is not None
        return self.critic


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return masked_mean(values.detach(), mask)
