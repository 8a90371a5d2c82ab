# SPDX-License-Identifier: Apache-2.0
"""What `lerobot-ext new` makes of a name, and which names it refuses."""

import keyword
import tomllib
from importlib import metadata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, is_normalized_name

from lerobot_ext.cli.command import CommandError
from lerobot_ext.doctor.survey import PREFIXES as DISCOVERED
from lerobot_ext.scaffold.names import KINDS, LONGEST, check_free, make_names, stock_types
from lerobot_ext.scaffold.render import Texts, project_files, toml_string

kinds = st.sampled_from(KINDS)
typed_names = st.text(alphabet="abcdeXYZ019_- .", min_size=1, max_size=20) | st.text(max_size=8)
one_line = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=40)


@given(kinds, typed_names)
def test_a_name_is_refused_in_one_line_or_good_for_everything(kind, typed):
    try:
        names = make_names(kind, typed)
    except CommandError as error:
        refusal = error
        names = None
    if names is None:
        assert "\n" not in str(refusal)
        assert refusal.remedy
        return
    assert names.name.isidentifier()
    assert names.name == names.name.lower()
    assert not keyword.iskeyword(names.name)
    assert len(names.name) <= LONGEST
    assert names.camel.isidentifier()
    assert names.package.startswith(DISCOVERED), "LeRobot would not import it"
    assert is_normalized_name(canonicalize_name(names.package))
    assert make_names(kind, names.name).name == names.name, "a name it made is one it takes"
    assert make_names(kind, names.package).package == names.package
    assert bool(names.notes) == (names.name != typed)


@settings(max_examples=60, deadline=None)
@given(kinds, typed_names, one_line | st.just(""), one_line | st.just(""))
def test_the_pyproject_of_a_valid_name_is_valid(kind, typed, author, description):
    try:
        names, texts = make_names(kind, typed), Texts(author, description)
    except CommandError:
        return
    files = project_files(names, texts)
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert project["name"] == names.package
    assert description in ("", project["description"])
    assert project["authors"][0]["name"]
    [lerobot] = [Requirement(line) for line in project["dependencies"]]
    assert lerobot.name == "lerobot"
    ours = [Requirement(line) for line in metadata.requires("lerobot_ext")]
    [window] = [r.specifier for r in ours if r.name == "lerobot" and r.marker is None]
    assert lerobot.specifier == window
    assert f"src/{names.package}/__init__.py" in files
    for path, text in files.items():
        if path.endswith(".py"):
            compile(text, path, "exec")


@given(one_line)
def test_any_printable_text_survives_toml(text):
    assert tomllib.loads(f"a = {toml_string(text)}") == {"a": text}


@pytest.mark.parametrize(
    ("kind", "typed", "name"),
    [
        ("policy", "my-act", "my_act"),
        ("policy", "MyACT", "my_act"),
        ("policy", "lerobot_policy_my_act", "my_act"),
        ("policy", "lerobot-policy-my-act", "my_act"),
        ("policy", "MyActPolicy", "my_act"),
        ("policy", "policy_net", "policy_net"),
        ("robot", "So200Arm", "so200_arm"),
        ("teleoperator", "lerobot_teleop_spoon", "spoon"),
        ("env", "table env", "table"),
        ("camera", "thermal.camera", "thermal"),
        ("processor", "lerobot_robot_processors_crop", "crop"),
    ],
)
def test_what_people_type_becomes_a_type_string(kind, typed, name):
    made = make_names(kind, typed)
    assert made.name == name
    assert bool(made.notes) == (typed != name)


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("", "ASCII letters"),
        ("größe", "ASCII letters"),
        ("a/b", "ASCII letters"),
        ("../evil", "ASCII letters"),
        ("2fast", "begins with '2'"),
        ("class", "keyword"),
        ("lambda", "keyword"),
        ("TRUE", "keyword"),
        ("--", "leaves nothing"),
        ("policy", "leaves nothing"),
        ("lerobot_policy", "leaves nothing"),
        ("my_configuration_net", "module names"),
        ("x" * 31, "31 characters"),
    ],
)
def test_a_bad_name_is_refused_with_the_reason(typed, why):
    with pytest.raises(CommandError, match=why):
        make_names("policy", typed)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("policy", "act"),
        ("policy", "diffusion"),
        ("robot", "koch_follower"),
        ("teleoperator", "so101_leader"),
        ("camera", "opencv"),
        ("env", "gym_manipulator"),
        ("processor", "normalizer_processor"),
    ],
)
def test_a_name_that_lerobot_has_is_refused(kind, name):
    assert name in stock_types(kind)
    if kind != "processor":  # its word is dropped from the name
        with pytest.raises(CommandError, match=f"{kind} type '{name}'"):
            check_free(make_names(kind, name))


def test_a_stock_step_of_another_package_name_is_refused():
    with pytest.raises(CommandError, match="processor step 'vla_jepa_clip_actions'"):
        check_free(make_names("processor", "vla_jepa_clip_actions"))


def test_an_installed_distribution_is_not_made_again():
    with pytest.raises(CommandError, match=r"lerobot_env_koch .* is installed"):
        check_free(make_names("env", "koch"))


def test_the_names_read_from_lerobots_sources_are_those_it_registers():
    import lerobot.policies  # noqa: F401 - registers the stock ones
    from lerobot.configs.policies import PreTrainedConfig
    from lerobot.envs.configs import EnvConfig

    for kind, base in (("policy", PreTrainedConfig), ("env", EnvConfig)):
        registered = {
            name for name, cls in base.get_known_choices().items() if cls.__module__.startswith("lerobot.")
        }
        assert registered
        assert registered <= set(stock_types(kind)), kind
