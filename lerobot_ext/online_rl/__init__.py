# SPDX-License-Identifier: Apache-2.0
"""Reinforcement learning that goes on in an environment: `lerobot-ext train-online`.

Episodes are collected with the policy as it is, kept as a LeRobotDataset, and learned from together with the
data that the policy was trained on before. Everything that is drawn at random follows from the seed and from
what is counted (episodes, updates), so a run that was stopped goes on as if it had not been.

- `settings`: what a run is; `building`: its policy, data and environment.
- `options`: from words to a run; `episode`, `collecting`: episodes, chunk by chunk; `rewards`: that they are
  paid as the prior data are.
- `replay`: episodes in memory, as batches; `replay_dataset`: the same on disk.
- `mixing`: which frames an update sees; `prior`: those of the prior data.
- `trainer`: the loop; `evaluation`: the success curve; `checkpoints`: what is saved.

LeRobot's own `lerobot.rl` is not used: its `ReplayBuffer` holds single transitions whose next state is the
one after, no chunks, no ends of episodes that tell a terminal state from a time limit; its learner and actor
are two processes that talk by gRPC, for SAC and the policies that its registry of algorithms names; what it
keeps on disk is written at the end only. What fits is used: the update of `lerobot-train`, its sampler,
dataset writer, evaluation and checkpoints.
"""
