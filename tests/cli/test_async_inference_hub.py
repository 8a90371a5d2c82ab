# SPDX-License-Identifier: Apache-2.0
"""`--policy.path=user/repo`: a policy of the Hub is pulled once, with its processors, and served."""

import os
import textwrap

import pytest
import warm_start
from serving_checkpoints import save_act

from lerobot_ext.testing.hub import HubServer, client_environment

pytestmark = pytest.mark.slow

SERVE = """
    import sys
    from huggingface_hub import HfApi
    from lerobot_ext.serving.allowlist import AllowList, NotAllowed
    from lerobot_ext.serving.messages import Feature, Join
    from lerobot_ext.serving.policy_host import PolicyHost

    api = HfApi()
    for name in ("me/reach", "me/secret"):
        api.create_repo(name)
        api.upload_folder(repo_id=name, folder_path=sys.argv[1])
    allowed = AllowList(["me/reach"])
    features = {
        "observation.state": Feature("F32", (6,), tuple("abcdef")),
        "observation.images.top": Feature("U8", (24, 32, 3)),
    }
    host = PolicyHost()
    join = Join("me/reach", "paper", features, tuple("abcdef"))
    for _ in range(2):
        session = host.open(allowed.find("me/reach"), join, 10.0)
    print(session.welcome.policy_type, session.welcome.policy, host.n_loads)
    try:
        allowed.find("me/secret")
    except NotAllowed as error:
        print(error)
"""


def test_a_listed_policy_of_the_hub_is_served_and_no_other(tmp_path):
    folder = save_act(tmp_path / "act")
    with HubServer(tmp_path / "hub") as server:
        done = warm_start.run_program(
            textwrap.dedent(SERVE),
            str(folder),
            env=os.environ | client_environment(server.url, tmp_path / "home"),
            timeout=240,
        )
    assert done.returncode == 0, done.stderr
    *_, served, refused = done.stdout.splitlines()
    assert served == "act me/reach 1"
    assert refused == "policy 'me/secret' is not on this server's list. It offers: me/reach"
