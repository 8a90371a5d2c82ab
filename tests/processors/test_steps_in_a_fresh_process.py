# SPDX-License-Identifier: Apache-2.0
"""All steps, saved in LeRobot's pipelines, do the same in one new interpreter that only discovers plugins."""

import json
import pickle

import pytest
import warm_start
from lerobot.processor import PolicyProcessorPipeline
from lerobot.processor.converters import identity_transition
from step_cases import CASES
from stock_cli import START_S

from lerobot_ext.testing.contracts.step_data import differences
from lerobot_ext.testing.contracts.synthetic import seed_everything

PROGRAM = """
import json, pickle, sys
from pathlib import Path
from lerobot.processor import PolicyProcessorPipeline
from lerobot.processor.converters import identity_transition
from lerobot.utils.import_utils import register_third_party_plugins
from lerobot_ext.testing.contracts.synthetic import seed_everything

register_third_party_plugins()
folder = Path(sys.argv[1])
answers = {}
for name, file in json.loads((folder / "names.json").read_text()).items():
    pipeline = PolicyProcessorPipeline.from_pretrained(
        folder, file, to_transition=identity_transition, to_output=identity_transition
    )
    seed_everything(3)
    answers[name] = pipeline(pickle.loads((folder / f"{file}.pickle").read_bytes()))
(folder / "answers.pickle").write_bytes(pickle.dumps(answers))
"""


@pytest.mark.slow
def test_all_steps_load_and_do_the_same(tmp_path):
    names, expected = {}, {}
    for number, (name, case) in enumerate(CASES.items()):
        step, data = case.make(), case.data()
        pipeline = PolicyProcessorPipeline(
            [step], f"case_{number}", to_transition=identity_transition, to_output=identity_transition
        )
        pipeline.save_pretrained(tmp_path)
        names[name] = f"case_{number}.json"
        (tmp_path / f"{names[name]}.pickle").write_bytes(pickle.dumps(data))
        seed_everything(3)
        expected[name] = pipeline(data)
    (tmp_path / "names.json").write_text(json.dumps(names))
    made = warm_start.run_program(PROGRAM, str(tmp_path), timeout=START_S)
    assert made.returncode == 0, made.stderr[-3000:]
    answers = pickle.loads((tmp_path / "answers.pickle").read_bytes())
    found = {name: differences(expected[name], answers[name]) for name in CASES}
    assert found == dict.fromkeys(CASES, "")
