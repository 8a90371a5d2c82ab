# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from mixes import entry, write_part, write_spec
from stock_loop import LOOP, POLICY, train

from lerobot_ext.mixing import train_hooks
from lerobot_ext.mixing.dataset import DATASET_INDEX, LOSS_WEIGHT
from lerobot_ext.mixing.loss_weights import LossWeighter, make_loss_weighter


class Plain:
    def forward(self, batch):
        """One loss."""


class Reducing:
    def forward(self, batch, reduction="mean"):
        """One, or one a sample."""


def test_each_sample_weighs_as_its_item_says():
    weights, said = LossWeighter().compute_batch_weights({LOSS_WEIGHT: torch.tensor([2.0, 0.5])})
    assert weights.tolist() == [2.0, 0.5]
    assert said == {"mean": 1.25}


def test_what_cannot_be_weighted_is_refused():
    assert make_loss_weighter(Reducing(), has_weights=True)
    with pytest.raises(ValueError, match="needs a dataset spec file with a `loss_weight`"):
        make_loss_weighter(Reducing(), has_weights=False)
    with pytest.raises(ValueError, match="Plain has one loss for the whole batch"):
        make_loss_weighter(Plain(), has_weights=True)


def test_the_stock_loop_weighs_losses(tmp_path, monkeypatch):
    """Each sample of a batch has the weight of its dataset, and the policy is asked for a loss of each."""
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.scripts import lerobot_train

    write_part(tmp_path / "a", (8,), ("reach",))
    write_part(tmp_path / "b", (8,), ("reach",), offset=3)
    parts = [entry(tmp_path / "a"), entry(tmp_path / "b", loss_weight=0)]
    spec = write_spec(tmp_path / "mix.yaml", *parts, weights="by_dataset")
    seen = []

    def forward(self, batch, reduction="mean"):
        loss, said = stock(self, batch)
        seen.append((reduction, batch[LOSS_WEIGHT].tolist(), batch[DATASET_INDEX].tolist()))
        return loss.expand(len(batch["action"])), said

    stock = ACTPolicy.forward
    monkeypatch.setattr(ACTPolicy, "forward", forward)
    train_hooks.uninstall()
    assert train_hooks.install(lerobot_train)
    try:
        words = [f"--dataset.repo_id={spec}", *POLICY, *LOOP, "--sample_weighting.type=loss_weight"]
        train(monkeypatch, *words, "--steps=3", "--save_checkpoint=false", f"--output_dir={tmp_path / 'out'}")
    finally:
        train_hooks.uninstall()
    assert {reduction for reduction, *_ in seen} == {"none"}
    for _, weights, datasets in seen:
        assert weights == [1.0 if index == 0 else 0.0 for index in datasets]
