# SPDX-License-Identifier: Apache-2.0
"""Rules on training: what `lerobot-train` does with a policy between a batch and an optimizer step."""

import fnmatch
import inspect
from typing import Any

import torch
from lerobot.utils.constants import ACTION
from torch import Tensor

from ..contract import broken, rule, skip
from .policy_names import _some
from .policy_subject import PolicySubject, copied
from .synthetic import seed_everything, tensors_equal

# Meters of `lerobot-train`: what a policy logs under these names is dropped without a word.
METERS = frozenset({"loss", "grad_norm", "lr", "update_s", "dataloading_s", "samples_per_s", "gpu_mem_gb"})


class PolicyTrainingRules(PolicySubject):
    """Losses, gradients and the optimizer step."""

    @rule(
        remedy="return `(loss, log)`: the loss a tensor without dimensions that gradients flow from, the "
        "log a dict "
        "or None",
        needs=["builds-for-training", "processors-are-found"],
    )
    def test_forward_returns_loss_and_log(self) -> None:
        """`forward` of a preprocessed batch returns a scalar loss with gradients, and a dict or None."""
        config = self.config()
        policy = self.build(config)
        policy.train()
        answer = policy.forward(self.training_batch(config))
        if not (isinstance(answer, tuple) and len(answer) == 2):
            broken(f"it returns {type(answer).__name__}")
        loss, log = answer
        if not (isinstance(loss, Tensor) and loss.ndim == 0):
            broken(f"the loss is {_described(loss)}")
        if not loss.requires_grad:
            broken("no gradient flows from the loss")
        if log is not None and not isinstance(log, dict):
            broken(f"the log is {type(log).__name__}")

    @rule(
        remedy="look for a division by zero, a log of zero or an unnormalised input",
        needs=["forward-returns-loss-and-log"],
    )
    def test_loss_is_finite(self) -> None:
        """The loss of a newly built policy is a finite number."""
        config = self.config()
        policy = self.build(config)
        policy.train()
        loss, _ = policy.forward(self.training_batch(config))
        if not torch.isfinite(loss):
            broken(f"the loss is {loss.item()}")

    @rule(
        remedy="log plain numbers: `value.item()`; LeRobot drops tensors, bools and text",
        needs=["forward-returns-loss-and-log"],
    )
    def test_log_holds_plain_numbers(self) -> None:
        """What `forward` logs are Python ints and floats by name."""
        log = self._log()
        wrong = {k: v for k, v in log.items() if isinstance(v, bool) or not isinstance(v, (int, float))}
        if wrong:
            broken(", ".join(f"`{key}` is {_described(value)}" for key, value in wrong.items()))

    @rule(
        remedy="give the number a name of its own, such as `my_policy/loss`",
        needs=["forward-returns-loss-and-log"],
    )
    def test_log_leaves_the_meters_of_lerobot_alone(self) -> None:
        """Nothing is logged under the name of one of LeRobot's own meters, which would hide it."""
        taken = METERS & set(self._log())
        if taken:
            broken(f"{_some(sorted(taken))} is a meter of lerobot-train; the policy's number is dropped")

    @rule(
        remedy="use every parameter in the loss, or turn its gradient off; name on purpose unused ones in "
        "`untrained`",
        needs=["loss-is-finite"],
    )
    def test_backward_reaches_every_parameter(self) -> None:
        """The loss of a batch gives each trainable parameter a finite gradient."""
        config = self.config()
        policy = self.build(config)
        policy.train()
        policy.forward(self.training_batch(config, size=3))[0].backward()
        missing = [
            name
            for name, p in policy.named_parameters()
            if p.requires_grad and p.grad is None and not self._untrained(name)
        ]
        if missing:
            broken(f"no gradient reaches {_some(missing)}")
        wild = [n for n, p in policy.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
        if wild:
            broken(f"the gradient of {_some(wild)} is not finite")

    @rule(
        remedy="draw all randomness from torch's, NumPy's or Python's global generator, which LeRobot seeds",
        needs=["loss-is-finite"],
    )
    def test_training_is_repeatable(self) -> None:
        """The same seed and batch give the same loss and gradients."""
        config = self.config()
        batch = self.training_batch(config)
        first, second = (self.loss_and_gradients(config, batch) for _ in range(2))
        found = tensors_equal(dict(enumerate(first)), dict(enumerate(second)))
        if found:
            broken(f"of two equal runs, {found}")

    @rule(
        remedy="multiply the loss by `~batch['action_is_pad']` and divide by the number of valid actions",
        needs=["training-is-repeatable"],
    )
    def test_padded_actions_do_not_count(self) -> None:
        """The actions of a sample that is all padding change neither loss nor gradients."""
        config = self.config()
        batch = self.training_batch(config, size=3)
        mask = f"{ACTION}_is_pad"
        if mask not in batch:
            skip("it takes one action a sample, without padding")
        batch[mask][-1] = True
        other = copied(batch)
        other[ACTION][-1] = 0.9 - 0.5 * batch[ACTION][-1]
        (loss, gradients), (other_loss, other_gradients) = (
            self.loss_and_gradients(config, each) for each in (batch, other)
        )
        if not torch.allclose(loss, other_loss, rtol=1e-4, atol=1e-5):
            broken(f"with other values at the padded positions the loss is {other_loss:.6g}, not {loss:.6g}")
        for name, gradient in gradients.items():
            if not torch.allclose(gradient, other_gradients[name], rtol=1e-3, atol=1e-5):
                apart = float((gradient - other_gradients[name]).abs().max())
                broken(f"the padded actions change the gradient of `{name}` by {apart:.3g}")

    @rule(
        remedy='with `reduction="none"` return the loss of each sample, (B,), before the mean over the batch',
        needs=["forward-works-in-evaluation"],
    )
    def test_sample_losses_average_to_the_loss(self) -> None:
        """`forward(batch, reduction="none")` gives one loss a sample, whose mean is the loss."""
        config = self.config()
        policy = self.build(config)
        if "reduction" not in inspect.signature(policy.forward).parameters:
            skip("`forward` has no `reduction`; lerobot-train then cannot weight samples")
        batch = self.training_batch(config, size=3)
        policy.eval()
        with torch.no_grad():
            seed_everything(3)
            mean, _ = policy.forward(copied(batch))
            seed_everything(3)
            each, _ = policy.forward(copied(batch), reduction="none")
        if each.shape != (3,):
            broken(f"for 3 samples the shape is {tuple(each.shape)}")
        if not torch.allclose(each.mean(), mean, rtol=1e-4, atol=1e-5):
            broken(f"the mean over samples is {each.mean():.6g}, the loss {mean:.6g}")

    @rule(
        remedy="let `forward` work after `eval()` and under `torch.no_grad()`: lerobot-train measures the "
        "evaluation loss so",
        needs=["loss-is-finite"],
    )
    def test_forward_works_in_evaluation(self) -> None:
        """`forward` gives a finite scalar loss in evaluation mode, without gradients."""
        config = self.config()
        policy = self.build(config)
        policy.eval()
        with torch.no_grad():
            loss, _ = policy.forward(self.training_batch(config))
        if loss.ndim != 0 or not torch.isfinite(loss):
            broken(f"the loss is {_described(loss)}")
        if policy.training:
            broken("the policy has put itself into training mode")

    @rule(
        remedy="avoid fixed dtypes: make tensors with `torch.zeros_like`, and cast inputs of losses to "
        "float32",
        needs=["loss-is-finite"],
    )
    def test_trains_in_mixed_precision(self) -> None:
        """Loss and gradients are finite under bfloat16 autocast."""
        config = self.config()
        policy = self.build(config)
        policy.train()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss, _ = policy.forward(self.training_batch(config))
        loss.backward()
        if not torch.isfinite(loss):
            broken(f"the loss is {loss.item()}")
        wild = [n for n, p in policy.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
        if wild:
            broken(f"the gradient of {_some(wild)} is not finite")

    @rule(
        remedy="take widths from `config.input_features` and `config.output_features`, and the batch size "
        "from the "
        "batch",
        needs=["loss-is-finite", "chunk-has-the-right-shape"],
    )
    def test_other_widths_work(self) -> None:
        """Widths that no one thought of work: 7 joints, 5 actions, one camera, 3 samples."""
        config = self.config(state=7, action=5, cameras=((48, 80),))
        self._trains_and_acts(config)

    @rule(
        remedy="encode each camera by itself, or raise a ValueError in `validate_features`",
        needs=["other-widths-work"],
    )
    def test_cameras_of_different_size_work_or_are_refused(self) -> None:
        """Two cameras of different size work, or are refused with a ValueError when the policy is built."""
        config = self.config(cameras=((64, 96), (48, 64)))
        try:
            self.build(config)
        except ValueError:
            skip("it refuses them when it is built")
        self._trains_and_acts(config)

    @rule(
        remedy="do all of a step in `forward` and `update`; leave no tensor behind that was made under "
        "`torch.inference_mode()`",
        needs=["loss-is-finite", "action-has-the-right-shape", "presets-build"],
    )
    def test_training_goes_on_after_acting(self) -> None:
        """A policy that acted in an evaluation in between trains on, as with `--env_eval_freq`."""
        config = self.config()
        policy = self.build(config)
        batch = self.training_batch(config)
        optimizer = config.get_optimizer_preset().build(policy.get_optim_params())
        self.step(policy, batch, optimizer)
        self.episode(policy)
        self.step(policy, batch, optimizer)
        wild = [name for name, p in policy.named_parameters() if not p.isfinite().all()]
        if wild:
            broken(f"{_some(wild)} is not finite after two steps")

    def step(self, policy: Any, batch: dict[str, Any], optimizer: torch.optim.Optimizer) -> float:
        """One step as `lerobot-train` makes it; the loss before it."""
        policy.train()
        loss, _ = policy.forward(copied(batch))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 10.0)
        optimizer.step()
        optimizer.zero_grad()
        if callable(getattr(policy, "update", None)):
            policy.update()
        return float(loss.item())

    def _trains_and_acts(self, config: Any) -> None:
        policy = self.build(config)
        policy.train()
        loss, _ = policy.forward(self.training_batch(config, size=3))
        loss.backward()
        if not torch.isfinite(loss):
            broken(f"the loss is {loss.item()}")
        chunk = self.chunk(policy, robots=3)
        width = config.action_feature.shape[0]
        if chunk.ndim != 3 or chunk.shape[0] != 3 or chunk.shape[2] != width:
            broken(f"the chunk of 3 robots with {width} actions has shape {tuple(chunk.shape)}")

    def _log(self) -> dict[str, Any]:
        config = self.config()
        policy = self.build(config)
        policy.train()
        return dict(policy.forward(self.training_batch(config))[1] or {})

    def _untrained(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.untrained)


def _described(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}" if value.numel() != 1 else f"tensor({value.item():.4g})"
    return f"{type(value).__name__} {value!r}"[:60]
