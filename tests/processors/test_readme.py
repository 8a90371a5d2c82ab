# SPDX-License-Identifier: Apache-2.0
"""The package's README names each step and field as they are, and its recipes can be built."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from lerobot.processor import ProcessorStepRegistry
from step_cases import CASES

README = Path(__file__).parents[2] / "processors" / "lerobot_robot_processors" / "README.md"
TEXT = README.read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(lerobot_ext_\w+)` \|(.*)\|$", TEXT, re.MULTILINE)
RECIPES = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)]


def test_every_step_with_a_case_has_a_row():
    used = {type(case.make())._registry_name for case in CASES.values()}
    assert used <= {name for name, _ in ROWS}


@pytest.mark.parametrize(("name", "cells"), ROWS, ids=[name for name, _ in ROWS])
def test_a_row_names_fields_that_exist(name, cells):
    step = ProcessorStepRegistry.get(name)
    fields = {field.name for field in dataclasses.fields(step)}
    named = set(re.findall(r"`(\w+)`", cells.split("|")[1]))
    assert named <= fields


def test_the_recipes_can_be_built():
    assert len(RECIPES) >= 4
    for recipe in RECIPES:
        for pipeline in recipe.values():
            for entry in pipeline["steps"]:
                ProcessorStepRegistry.get(entry["registry_name"])(**entry["config"])
