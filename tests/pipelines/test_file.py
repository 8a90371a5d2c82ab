# SPDX-License-Identifier: Apache-2.0
"""Whatever a file of steps holds, it is read, or refused by name; nothing else is raised."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lerobot_ext.pipelines.file import POLICY_SIDE, ROBOT_SIDE, PipelineError, read_file

anything = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "a", "a.B", "x.json", "../x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "steps", "where", "config", "a"]), inner, max_size=3)
    ),
    max_leaves=8,
)
step = st.dictionaries(
    st.sampled_from(["registry_name", "class", "config", "state_file", "where", "other"]),
    anything,
    max_size=4,
)
pipeline = st.fixed_dictionaries({"steps": st.lists(step | anything, max_size=3) | anything}) | anything
content = st.dictionaries(
    st.sampled_from([*ROBOT_SIDE, *POLICY_SIDE, "steps", "other"]), pipeline, max_size=3
)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], deadline=None)
@given(content=content | anything, allowed=st.sampled_from([ROBOT_SIDE, POLICY_SIDE]))
def test_any_json_is_read_or_refused(tmp_path, content, allowed):
    path = tmp_path / "p.json"
    path.write_text(json.dumps(content))
    found, refused = {}, None
    try:
        found = read_file(path, allowed)
    except PipelineError as error:
        refused = error
    assert refused is None or (str(path) in str(refused) and refused.remedy)
    assert set(found) <= {*allowed, ""}
    for entry in found.values():
        assert all(one.name and "/" not in one.state_file for one in entry.steps)


def test_a_robots_steps_have_no_places(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"robot_action": {"steps": [], "where": "end"}}))
    with pytest.raises(PipelineError, match="only the steps of a policy have places"):
        read_file(path, ROBOT_SIDE)


def test_what_lerobot_saves_is_read(tmp_path):
    from lerobot.processor import (
        DataProcessorPipeline,
        IdentityProcessorStep,
        RenameObservationsProcessorStep,
    )

    steps = [IdentityProcessorStep(), RenameObservationsProcessorStep({"a": "b"})]
    DataProcessorPipeline(steps, name="robot_observation").save_pretrained(tmp_path)
    [entry] = read_file(tmp_path / "robot_observation.json", ROBOT_SIDE).values()
    assert entry.key == "robot_observation"
    assert entry.steps[1].config == {"rename_map": {"a": "b"}}
