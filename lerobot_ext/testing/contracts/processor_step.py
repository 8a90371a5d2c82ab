# SPDX-License-Identifier: Apache-2.0
"""`ProcessorStepContract`: what a processor step must keep to be saved, loaded and chained by LeRobot."""

import copy
import json
import pickle
from collections.abc import Mapping
from typing import Any, ClassVar, Self, cast

from lerobot.configs import FeatureType, NormalizationMode
from lerobot.configs.types import PipelineFeatureType, PolicyFeature
from lerobot.processor import DataProcessorPipeline, ProcessorStep, ProcessorStepRegistry, TransitionKey
from lerobot.processor.converters import identity_transition
from torch import Tensor

from lerobot_ext.cli.command import CommandError
from lerobot_ext.plugins import describe_error

from ..choices import text_value
from ..contract import Contract, broken, rule, skip
from .fresh import run_fresh
from .step_data import differences, halved, observed_shapes, policy_transition, robot_transition, shapes_of
from .synthetic import seed_everything, synthetic_features, synthetic_stats

Transition = dict[Any, Any]


class ProcessorStepContract(Contract):
    """A step of a policy's processors, or of a robot's or environment's.

    Override `make_step`; steps that need something particular also override `make_transition`:

    ```python
    class TestMyStep(ProcessorStepContract):
        def make_step(self):
            return MyStep(gain=2.0)
    ```
    """

    subject: ClassVar[str] = "step"

    # ---- to override -------------------------------------------------------------------------------------

    def make_step(self) -> ProcessorStep:
        """A new step, equal each time; the one method that an author must write."""
        raise NotImplementedError(f"{type(self).__name__} must override `make_step`")

    def make_transition(self) -> Transition:
        """What the step is given: by default two samples of an arm with two cameras, as a policy gets them.

        A step that takes a robot's named numbers (`RobotActionProcessorStep`) gets those.
        """
        return robot_transition() if takes_robot_actions(self.make_step()) else policy_transition()

    def make_features(self) -> dict[PipelineFeatureType, dict[str, Any]]:
        """The features of `make_transition`, as LeRobot hands them to `transform_features`."""
        return shapes_of(self.make_transition())

    def make_inverse(self, step: ProcessorStep) -> ProcessorStep | None:
        """A step that undoes `step`; None when there is none."""
        return None

    # ---- rules -------------------------------------------------------------------------------------------

    @rule(remedy="return an instance of a subclass of lerobot's ProcessorStep")
    def test_step_builds(self) -> None:
        """`make_step` gives a processor step."""
        step = self.make_step()
        if not isinstance(step, ProcessorStep):
            broken(f"{type(step).__name__} is no lerobot ProcessorStep")

    @rule(
        remedy="decorate the class with `@ProcessorStepRegistry.register('my_plugin_my_step')`; a "
        "subclass does not share its parent's registration",
        needs=["step-builds"],
    )
    def test_class_is_registered(self) -> None:
        """The step's own class is registered under a name: a saved pipeline refers to it by that."""
        cls = type(self.make_step())
        name = getattr(cls, "_registry_name", None)
        if name is None:
            broken(f"{cls.__name__} is not registered")
        found = ProcessorStepRegistry.get(name)
        if found is not cls:
            broken(f"{cls.__name__} would be saved as `{name}`, which is {found.__name__}")

    @rule(
        remedy="return from `get_config` numbers, text, lists and dicts: enums by `.value`, paths as text",
        needs=["step-builds"],
    )
    def test_config_is_json(self) -> None:
        """`get_config` gives a dict that JSON can hold."""
        config = self.make_step().get_config()
        if not isinstance(config, dict):
            broken(f"it gives {type(config).__name__}")
        json.dumps(config)

    @rule(
        remedy="return from `state_dict` a flat dict of tensors; everything else belongs into `get_config`",
        needs=["step-builds"],
    )
    def test_state_is_tensors(self) -> None:
        """`state_dict` gives tensors by name."""
        state = self._used().state_dict()
        wrong = {k: type(v).__name__ for k, v in state.items() if not isinstance(v, Tensor)}
        if wrong:
            broken(", ".join(f"`{key}` is {kind}" for key, kind in wrong.items()))

    @rule(
        remedy="let `load_state_dict` take over everything that `state_dict` gives",
        needs=["config-is-json", "state-is-tensors"],
    )
    def test_state_survives_loading(self) -> None:
        """A step made from the config has, after `load_state_dict`, the state of the first."""
        step = self._used()
        found = differences(step.state_dict(), self._recreated(step).state_dict())
        if found:
            broken(f"the state: {found}")

    @rule(
        remedy="return every constructor argument from `get_config`, under its own name",
        needs=["state-survives-loading", "runs", "reset-begins-anew"],
    )
    def test_recreated_step_does_the_same(self) -> None:
        """A step made from config and state of another does to a transition what that one does."""
        step = self._used()
        other = self._recreated(step)
        for each in (step, other):
            each.reset()
        found = differences(self._run(step), self._run(other))
        if found:
            broken(found)

    @rule(
        remedy="return a transition with all keys of the one given (`transition.copy()`)",
        needs=["step-builds"],
    )
    def test_runs(self) -> None:
        """A transition goes through the step and keeps all of its parts."""
        given = self.make_transition()
        after = self.make_step()(copy.deepcopy(given))
        if not isinstance(after, dict):
            broken(f"the step returns {type(after).__name__}")
        lost = [getattr(key, "value", key) for key in given if key not in after]
        if lost:
            broken(f"the transition loses {lost}")

    @rule(
        remedy="copy before changing: `observation = dict(observation)`, and `x * 2` rather than `x.mul_(2)`",
        needs=["runs"],
    )
    def test_input_stays_as_it_is(self) -> None:
        """The transition that is handed in, and what it holds, is the same afterwards."""
        given = self.make_transition()
        before = copy.deepcopy(given)
        self.make_step()(given)
        found = differences(before, given)
        if found:
            broken(f"the transition handed in changes: {found}")

    @rule(remedy="draw randomness from torch's global generator, which LeRobot seeds", needs=["runs"])
    def test_step_is_repeatable(self) -> None:
        """Two equal steps do the same to the same transition under the same seed."""
        found = differences(self._run(self.make_step()), self._run(self.make_step()))
        if found:
            broken(found)

    @rule(
        remedy="forget in `reset()` what was kept from earlier transitions",
        needs=["step-is-repeatable"],
    )
    def test_reset_begins_anew(self) -> None:
        """After `reset()` the step does to a transition what it did to the first."""
        step = self.make_step()
        first = self._run(step)
        step(halved(self.make_transition()))
        step.reset()
        found = differences(first, self._run(step))
        if found:
            broken(f"after `reset()`: {found}")

    @rule(
        remedy="let `transform_features` add, drop, rename and resize exactly what the step does",
        needs=["runs"],
    )
    def test_features_match_the_data(self) -> None:
        """`transform_features` promises the keys and shapes that a transition then has."""
        step = self.make_step()
        promised = step.transform_features(self.make_features())
        after = self._run(step)
        for kind, part in (
            (PipelineFeatureType.OBSERVATION, TransitionKey.OBSERVATION),
            (PipelineFeatureType.ACTION, TransitionKey.ACTION),
        ):
            names, data = promised.get(kind, {}), observed_shapes(after, part)
            if set(names) != set(data):
                broken(
                    f"{kind.value}: promised and not there {sorted(set(names) - set(data))}, there and not "
                    f"promised {sorted(set(data) - set(names))}"
                )
            for name, feature in names.items():
                shape = tuple(feature.shape) if isinstance(feature, PolicyFeature) else feature
                if isinstance(shape, tuple) and shape != data[name]:
                    broken(f"`{name}` is promised as {shape}, and is {data[name]}")

    @rule(
        remedy="pass on what is not there, or raise an error that names the key",
        needs=["runs"],
    )
    def test_missing_parts_pass_or_are_named(self) -> None:
        """A transition without one of its parts passes, or is refused with an error that names that part."""
        for what, transition in self._incomplete():
            try:
                self.make_step()(transition)
            except Exception as error:  # noqa: BLE001 - any refusal counts, its words are what is judged
                if what.lower() not in str(error).lower():
                    broken(f"without `{what}`: {describe_error(error)}")

    @rule(remedy="keep locks, open files and lambdas out of the step", needs=["step-builds"])
    def test_step_pickles(self) -> None:
        """The step can be sent to a worker process."""
        pickle.loads(pickle.dumps(self._used()))

    @rule(
        remedy="register the step under a name that can be part of a file's name, and keep tensors in "
        "`state_dict` of types that safetensors can hold",
        needs=["class-is-registered", "recreated-step-does-the-same"],
    )
    def test_pipeline_survives_saving(self) -> None:
        """A pipeline with the step, saved and loaded by LeRobot, does the same to a transition."""
        step = self._used()
        folder = self.new_folder()
        self._pipeline(step).save_pretrained(folder)
        loaded = DataProcessorPipeline.from_pretrained(
            folder,
            config_filename="contract.json",
            to_transition=identity_transition,
            to_output=identity_transition,
        )
        for each in (step, *loaded.steps):
            each.reset()
        found = differences(self._run(step), self._run(loaded))
        if found:
            broken(f"after loading: {found}")

    @rule(
        remedy="import the step's module in the plugin's `__init__`; name the distribution as its package",
        needs=["pipeline-survives-saving"],
    )
    def test_fresh_process_loads_it(self) -> None:
        """A process that knows the plugin by LeRobot's discovery alone loads and runs the pipeline alike."""
        step = self._used()
        folder = self.new_folder()
        self._pipeline(step).save_pretrained(folder)
        transition = self.make_transition()
        (folder / "transition.pickle").write_bytes(pickle.dumps(transition))
        (folder / "pipeline.name").write_text(json.dumps("contract.json"), encoding="utf-8")
        answer = run_fresh("run_pipeline", folder)
        if "error" in answer:
            broken(str(answer["error"]))
        step.reset()
        there = pickle.loads((folder / "answer.pickle").read_bytes())
        found = differences(self._run(step), there)
        if found:
            broken(f"in a fresh process: {found}")

    @rule(
        remedy="undo in the inverse, in reverse order, all that the step does",
        needs=["step-is-repeatable"],
    )
    def test_inverse_undoes_it(self) -> None:
        """The inverse step brings a transition back to what it was."""
        step = self.make_step()
        inverse = self.make_inverse(step)
        if inverse is None:
            skip("`make_inverse` names none")
        given = self.make_transition()
        back = inverse(step(copy.deepcopy(given)))
        found = differences(given, back, tolerance=1e-4)
        if found:
            broken(f"after both: {found}")

    # ---- what the rules use --------------------------------------------------------------------------------

    def _used(self) -> Any:
        """A step that has seen a transition, with the state that it has then."""
        step = self.make_step()
        self._run(step)
        return step

    def _run(self, step: Any) -> Transition:
        seed_everything(3)
        after: Transition = step(self.make_transition())
        return after

    def _recreated(self, step: Any) -> Any:
        other = type(step)(**json.loads(json.dumps(step.get_config())))
        other.load_state_dict(step.state_dict())
        return other

    def _pipeline(self, step: Any) -> Any:
        return DataProcessorPipeline(
            steps=[step], name="contract", to_transition=identity_transition, to_output=identity_transition
        )

    def _incomplete(self) -> list[tuple[str, Transition]]:
        """Transitions that lack one part each, and what it is called."""
        lacking = []
        for key, part in self.make_transition().items():
            if isinstance(part, Mapping):
                for name in part:
                    transition = self.make_transition()
                    del transition[key][name]
                    lacking.append((str(name), transition))
        for key in (TransitionKey.OBSERVATION, TransitionKey.ACTION):
            lacking.append((key.value, {**self.make_transition(), key: None}))
        return lacking

    @classmethod
    def for_choice(cls, name: str, settings: Mapping[str, str]) -> type[Self]:
        """See `Contract.for_choice`; features and statistics that a step needs are made up."""
        if name not in ProcessorStepRegistry.list():
            known = ", ".join(sorted(ProcessorStepRegistry.list()))
            raise CommandError(f"no processor step is registered as {name!r}", f"registered are {known}")
        step_class = ProcessorStepRegistry.get(name)
        values = {field: text_value(text) for field, text in settings.items()}
        fields = getattr(step_class, "__dataclass_fields__", {})
        filled = {key: make() for key, make in _FILLED.items() if key in fields and key not in settings}
        try:
            step_class(**values, **filled)
        except Exception as error:
            raise CommandError(
                f"`{name}` cannot be made: {describe_error(error)}",
                f"give values with `--set field=value`; {name} has the fields {', '.join(fields)}",
            ) from error
        members = {
            "make_step": lambda self: step_class(**copy.deepcopy({**values, **filled})),
            "changed": dict.fromkeys(filled, "made up: an arm with two cameras"),
            "__doc__": f"{cls.__name__} of `{name}`.",
        }
        return cast(type[Self], type(f"{cls.__name__}_{name}", (cls,), members))


def takes_robot_actions(step: Any) -> bool:
    """Whether the step works on named numbers of a robot instead of tensors."""
    from lerobot.processor import RobotActionProcessorStep

    return isinstance(step, RobotActionProcessorStep)


def _all_features() -> dict[str, PolicyFeature]:
    made = synthetic_features()
    return {**made["input_features"], **made["output_features"]}


def _norm_map() -> dict[FeatureType, NormalizationMode]:
    modes = dict.fromkeys((FeatureType.STATE, FeatureType.ACTION), NormalizationMode.MEAN_STD)
    return {**modes, FeatureType.VISUAL: NormalizationMode.IDENTITY}


_FILLED: Mapping[str, Any] = {
    "features": _all_features,
    "norm_map": _norm_map,
    "stats": lambda: synthetic_stats(_all_features()),
}
