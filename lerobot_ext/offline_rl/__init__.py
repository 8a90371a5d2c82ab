# SPDX-License-Identifier: Apache-2.0
"""Offline reinforcement learning on chunks of actions, inside the stock trainer: the parts, no policy.

A policy that learns values from logs asks LeRobot for two observations, a chunk of `h` actions and of `h`
rewards (`observation_delta_indices=[0, h]`, `action_delta_indices=range(h)`, `reward_delta_indices=range(h)`)
and builds on these modules; nothing here knows which policy. Importing the package imports none of them.

- `chunks`: what a chunk is worth. `chunk_targets` turns rewards, padding and terminals into discounted
  returns, the bootstrap factor and which samples may be used; `hold_last` fills padded actions.
- `labels`: episodes of a dataset (bounds, success, returns) from its columns, terminal modes, and rewards
  for a batch from `next.reward`, from success alone, or as a cost of each step.
- `batches`: both for a policy: `ChunkLabels` turns a batch of LeRobot's into targets; its bounds are saved.
- `bounds`: the range in which values must lie.
- `critics`: ensembles whose members run in one batched call, their aggregation, and bootstrap masks that are
  hashed from the frame's `index`, so that they survive a resume.
- `observations`: all cameras and vectors of a state as one vector, for critics.
- `losses`: expectile regression, advantage weights, masked means; what a batch costs, and says in the log.
- `routing`: several losses on one optimizer: the exact policy gradient through a critic that learns nothing
  from it, and parameter groups that are clipped one by one (`GroupedAdamWConfig`).
- `targets`: target networks that follow slowly, buffers included.
- `shards`: both where FSDP has cut the weights up.
- `randomness`: the noise of a training step, equal after a resume.
- `configuration`: what the configurations of such policies inherit: rules and refusals, no fields.
- `policy`: what the policies inherit: whose rewards and ends their batches have.
- `fqe`: fitted Q evaluation: what a policy is worth, from logs alone.
- `learner`: what a policy must offer so that `lerobot-ext train-online` goes on with it.
- `toy`: a chunked decision process that value iteration solves, for tests of learners.

A policy's step under `lerobot-train` (one loss, one backward, one optimizer step, then `update()`):

    targets = chunk_targets(rewards, valid, at_end, terminal, discount)
    with torch.no_grad():
        wanted = targets.returns + targets.bootstrap * value_of_next
    critic_loss = masked_mean((critic(features, actions) - wanted).square(), targets.usable)
    actor_loss = masked_mean(policy_gradient_loss(q_of_action, actions_of_the_actor), everything)
    return critic_loss + actor_loss, {"critic_loss": critic_loss.item()}
    # def update(self): soft_update(self.target, self.network, self.config.tau)

What each function means for shapes stands there; legend: `B` batch, `H` chunk, `A` action, `D` feature,
`E` ensemble member.
"""
