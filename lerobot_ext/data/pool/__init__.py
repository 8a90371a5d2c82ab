# SPDX-License-Identifier: Apache-2.0
"""Camera pictures decoded once, served from memory that all workers and ranks share: docs/memory_pool.md.

`budget` reads `LEROBOT_EXT_POOL`, `schedule` decides which episodes are there together and in which order
frames are drawn, `arena` is the shared memory, `source` decodes, `episode_pool` joins them. `sampler` makes
LeRobot's sampler draw from what is there, `size` lets a policy and its checkpoint know of smaller pictures.
"""
