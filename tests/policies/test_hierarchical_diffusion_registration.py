# SPDX-License-Identifier: Apache-2.0
"""When and how the plugin registers itself; each case in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest
import warm_start


def run(program: str, warm: bool = False) -> str:
    if warm:
        done = warm_start.run_program(program)
    else:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


# The plugin loads the others that are installed; what those import is not its own cost.
ALONE = "import lerobot_ext.plugins; lerobot_ext.plugins.load_all = lambda: None\n"
CHOICE = "PreTrainedConfig.get_choice_class('hierarchical_diffusion').__name__"


@pytest.mark.parametrize(
    "imports",
    [
        "import lerobot_policy_hierarchical_diffusion; from lerobot.configs import PreTrainedConfig",
        "from lerobot.configs import PreTrainedConfig; import lerobot_policy_hierarchical_diffusion",
        "from lerobot_policy_hierarchical_diffusion import HierarchicalDiffusionConfig; "
        "from lerobot.configs import PreTrainedConfig",
        "from lerobot.utils.import_utils import register_third_party_plugins as r; r(); "
        "from lerobot.configs import PreTrainedConfig",
    ],
    ids=["plugin-first", "lerobot-first", "by-name", "discovery-first"],
)
def test_config_and_step_are_registered_in_any_order(imports):
    program = (
        f"{imports}; import lerobot.policies.factory\n"
        "from lerobot.processor import ProcessorStepRegistry as R\n"
        f"R.get('lerobot_ext_split_environment_state'); print({CHOICE})"
    )
    assert run(program, warm=True) == "HierarchicalDiffusionConfig"


def test_a_process_without_policies_does_not_pay_for_them():
    program = ALONE + (
        "import sys, lerobot_policy_hierarchical_diffusion as p\n"
        "print([m for m in ('torch', 'torchvision', 'diffusers', 'lerobot.configs', 'lerobot.processor') "
        "if m in sys.modules], p.__version__)"
    )
    assert run(program) == "[] 0.1.0"


def test_registration_imports_no_model_code():
    program = ALONE + (
        "import sys, lerobot.configs, lerobot.processor; before = set(sys.modules)\n"
        "import lerobot_policy_hierarchical_diffusion\n"
        "new = {m for m in set(sys.modules) - before if not m.startswith(('lerobot_', '_virtualenv'))}\n"
        "print(sorted(m for m in new if m.split('.')[0] in ('torch', 'torchvision', 'diffusers', 'lerobot')))"
    )
    assert run(program) == "[]"


def test_unknown_attribute_is_an_attribute_error():
    import lerobot_policy_hierarchical_diffusion as plugin

    with pytest.raises(AttributeError, match="nonsense"):
        _ = plugin.nonsense
