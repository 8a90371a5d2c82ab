# SPDX-License-Identifier: Apache-2.0
"""Async inference that lets nobody in: a policy server and a robot client without pickle.

LeRobot's policy server unpickles what an unauthenticated socket sends it, which lets the sender run any code
(CVE-2026-25874, open in LeRobot 0.6.1). The two commands here speak the same gRPC service, but every payload
is a JSON header and safetensors, checked against what the policy takes before memory is set aside for it.

- `codec`, `strict_json`, `pictures`, `chunked`: bytes on the wire, and how hostile ones are refused.
- `messages`, `contract`: what is said, and whether a robot and a policy fit together.
- `allowlist`, `lease`, `access`: which policies, which client, and who may speak at all.
- `policy_host`, `policy_server`: the server. `timesteps`, `link`, `robot_client`: the client.
"""
