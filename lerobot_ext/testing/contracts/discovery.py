# SPDX-License-Identifier: Apache-2.0
"""`DiscoveryContract`: what a plugin's distribution must keep to be found by LeRobot, and to leave again."""

import configparser
import json
import re
from collections.abc import Collection, Mapping, Sequence
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Self, cast

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from lerobot_ext.cli.command import CommandError
from lerobot_ext.doctor.survey import PREFIXES, survey
from lerobot_ext.plugins import GROUP

from ..contract import Contract, broken, rule, skip
from ..environments import Environment, Wheel, build_wheel, can_install, repack_wheel, source_folder

# Imported for a model or a simulation, never to register a config.
_HEAVY = frozenset({"diffusers", "jax", "mujoco", "tensorflow", "timm", "torchvision", "transformers"})
_STRAY = re.compile(r"(^|/)(\.DS_Store|Thumbs\.db|\.git|\.idea|\.vscode|__pycache__|\.env|.*\.egg-info)(/|$)")


class DiscoveryContract(Contract):
    """A plugin's distribution, from its built wheel in a clean environment.

    Override `distribution` or `project_dir`, and `registers`:

    ```python
    class TestMyPlugin(DiscoveryContract):
        project_dir = Path(__file__).parents[1]
        registers = {"policy my_policy"}
    ```
    """

    subject: ClassVar[str] = "distribution"
    distribution: ClassVar[str] = ""
    """Name of an installed distribution."""
    project_dir: ClassVar[Path | None] = None
    """Or the folder of its source, with a `pyproject.toml`."""
    registers: ClassVar[Collection[str] | None] = None
    """What LeRobot must know afterwards: `{"policy foo", "step foo_step"}`; None asks for anything at all."""
    needs: ClassVar[Sequence[str | Path]] = ()
    """Distributions or source folders to install first: what is under development here as well."""
    may_need: ClassVar[Collection[str]] = ()
    """Other plugins that this one may depend on."""
    _made: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._made = {}

    # ---- to override -------------------------------------------------------------------------------------

    def make_wheel(self, out: Path) -> Path:
        """The wheel, in folder `out`: built from source, or repacked from what is installed."""
        if self.project_dir is not None:
            return build_wheel(self.project_dir, out)
        return wheel_of(self.distribution, out)

    def make_environment(self, folder: Path, without: Collection[str]) -> Environment:
        """A clean environment that holds everything but the distributions `without`."""
        return Environment(folder, without)

    # ---- the wheel ---------------------------------------------------------------------------------------

    @rule(remedy="run `python -m build --wheel` and mend what it says")
    def test_wheel_builds(self) -> None:
        """The distribution's wheel builds and says its name."""
        if not self.wheel.name:
            broken("its metadata has no `Name`")

    @rule(
        remedy="choose a name with one of LeRobot's prefixes, in underscores, and name the package the same: "
        "LeRobot compares the name as it is written and imports it; or declare an entry point of group "
        f"`{GROUP}`",
        needs=["wheel-builds"],
    )
    def test_name_is_discovered(self) -> None:
        """The distribution is named as its package, with one of LeRobot's prefixes, or has an entry point."""
        name, packages = self.wheel.name, self.wheel.packages
        if f"[{GROUP}]" in self.wheel.entry_points:
            return
        if not name.startswith(PREFIXES):
            broken(f"{name!r} begins with none of {', '.join(PREFIXES)}")
        if name not in packages:
            broken(f"LeRobot imports {name!r}; the wheel holds {packages}")

    @rule(
        remedy="list the package explicitly in the build's settings, and leave tests and caches out",
        needs=["wheel-builds"],
    )
    def test_wheel_holds_only_its_package(self) -> None:
        """The wheel holds the package of its name, no other top-level folder, and no stray file."""
        own = self.package
        others = sorted({path.partition("/")[0] for path in self.wheel.files} - {own, self.wheel.info})
        if others:
            broken(f"beside `{own}` it installs {others} for everyone")
        stray = [path for path in self.wheel.files if _STRAY.search(path)]
        if stray:
            broken(f"it holds {stray[:5]}")

    @rule(
        remedy="set `license`, `requires-python` and `readme` (or `description`) under `[project]`",
        needs=["wheel-builds"],
    )
    def test_metadata_is_complete(self) -> None:
        """The metadata names a licence, the Python it needs, and says what the plugin is."""
        says = self.wheel.metadata
        classifiers = says.get_all("Classifier") or []
        licence = says["License-Expression"] or says["License"] or says["License-File"]
        missing = []
        if not licence and not any(str(line).startswith("License ::") for line in classifiers):
            missing.append("a licence")
        if not says["Requires-Python"]:
            missing.append("`Requires-Python`")
        if not (says["Summary"] or str(says.get_payload() or "").strip()):
            missing.append("a description")
        if missing:
            broken(f"it lacks {', '.join(missing)}")

    @rule(
        remedy='declare the LeRobot versions you have tested: `dependencies = ["lerobot>=0.6.1,<0.7"]`',
        needs=["wheel-builds"],
    )
    def test_lerobot_is_required(self) -> None:
        """The distribution requires a LeRobot, and the installed one is among those it accepts."""
        wanted = self._requirement("lerobot")
        if wanted is None:
            broken("`Requires-Dist` does not name lerobot")
        if not wanted.contains(metadata.version("lerobot"), prereleases=True):
            broken(f"it wants lerobot {wanted}; installed is {metadata.version('lerobot')}")

    @rule(
        remedy="add an upper bound, `lerobot>=0.6.1,<0.7`: LeRobot's interfaces change with minor versions",
        needs=["lerobot-is-required"],
    )
    def test_lerobot_is_bounded(self) -> None:
        """The LeRobot versions that are accepted end before one that nobody has tried."""
        wanted = self._requirement("lerobot")
        if wanted is None or wanted.contains("99.0", prereleases=True):
            broken(f"it accepts any later LeRobot: {str(wanted) or 'no bound'}")

    @rule(
        remedy="share code through a library that is no plugin; LeRobot would load the other plugin as well",
        needs=["wheel-builds"],
    )
    def test_no_other_plugin_is_required(self) -> None:
        """The distribution depends on no other plugin."""
        needed = {Requirement(line).name for line in self.wheel.requires}
        plugins = sorted(
            name for name in needed if name.replace("-", "_").startswith(PREFIXES) and not self._allowed(name)
        )
        if plugins:
            broken(f"it requires {', '.join(plugins)}")

    @rule(
        remedy=f"declare an entry point of group `{GROUP}` that names the package: the core then reports the "
        "plugin",
        needs=["wheel-builds"],
    )
    def test_loader_is_declared(self) -> None:
        """A plugin that depends on `lerobot_ext` is listed with its loader."""
        if not any(
            canonicalize_name(Requirement(line).name) == "lerobot-ext" for line in self.wheel.requires
        ):
            skip("it does not depend on lerobot_ext")
        points = configparser.ConfigParser(delimiters=("=",), strict=False)
        points.read_string(self.wheel.entry_points)
        if not points.has_section(GROUP):
            broken(f"it depends on lerobot_ext and declares nothing in group `{GROUP}`")

    # ---- installed ---------------------------------------------------------------------------------------

    @rule(
        remedy="import the package in an environment with its dependencies only, and mend what it says; "
        "guard optional dependencies",
        needs=["name-is-discovered"],
    )
    def test_discovery_imports_it(self) -> None:
        """LeRobot's discovery finds and imports the plugin, installed alone, without an error."""
        answer = self._answer()
        for key in ("discovery_error", "import_error"):
            if answer[key]:
                broken(answer[key])
        if not answer["discovered"]:
            broken("it imports, but LeRobot's discovery passes it by")
        if answer["errors"]:
            broken("; ".join(answer["errors"])[:500])

    @rule(
        remedy="decorate the configs and steps with LeRobot's `register…`, and import their modules in the "
        "package's `__init__`",
        needs=["discovery-imports-it"],
    )
    def test_it_registers_what_it_promises(self) -> None:
        """After discovery LeRobot knows what the plugin promises, and no less and no more besides."""
        answer = self._answer()
        found = set(answer["registered"])
        if answer["lost"]:
            broken(f"LeRobot no longer knows {answer['lost']}")
        if self.registers is None:
            if not found:
                broken("it registers nothing")
        elif found != set(self.registers):
            broken(
                f"promised and not registered: {sorted(set(self.registers) - found)}; registered and not "
                f"promised: {sorted(found - set(self.registers))}"
            )

    @rule(
        remedy="import models, simulators and drivers where they are used, not in `__init__` or the config's "
        "module: every LeRobot command imports every plugin",
        needs=["discovery-imports-it"],
    )
    def test_import_is_light(self) -> None:
        """Importing the plugin imports no model code, and no heavy library that LeRobot has not imported."""
        modules = self._answer()["modules"]
        own = [m for m in modules if m.startswith(f"{self.package}.") and ".modeling_" in f".{m}"]
        heavy = sorted({m.partition(".")[0] for m in modules} & _HEAVY)
        if own or heavy:
            broken(f"it imports {', '.join(own + heavy)}")

    @rule(
        remedy="make what the entry point names do its work once, or nothing on a second call",
        needs=["discovery-imports-it"],
    )
    def test_registering_twice_is_harmless(self) -> None:
        """A second discovery changes nothing and raises nothing."""
        answer = self._answer()
        if answer["again"]:
            broken(answer["again"])
        if answer["changed_again"]:
            broken(f"the second time changes {answer['changed_again']}")

    @rule(
        remedy="import what the plugin needs of LeRobot where it needs it; rely on nothing that is loaded",
        needs=["it-registers-what-it-promises"],
    )
    def test_order_of_imports_is_free(self) -> None:
        """The plugin, imported before LeRobot, registers the same."""
        said = self._in_environment(lambda env: env.run(program(), self.package, "first"))
        answer = json.loads(said)
        if answer["import_error"]:
            broken(f"before LeRobot: {answer['import_error']}")
        if answer["own"] != self._answer()["own"]:
            broken(f"imported before LeRobot it registers {answer['own']}")

    @rule(
        remedy="install nothing outside the package's folder, and write nothing into it at run time",
        needs=["discovery-imports-it"],
    )
    def test_uninstalling_leaves_nothing(self) -> None:
        """Installed, imported and uninstalled, the plugin leaves no file behind."""
        self._answer()
        left = self._made["left"]
        if left:
            broken(f"it leaves {sorted(left)[:5]}")

    # ---- what the rules use --------------------------------------------------------------------------------

    @property
    def wheel(self) -> Wheel:
        """The wheel, made once a class."""
        if "wheel" not in self._made:
            self._made["wheel"] = Wheel(self.make_wheel(self.new_folder()))
            self._made["file"] = self._made["wheel"].path.read_bytes()
        made: Wheel = self._made["wheel"]
        return made

    @property
    def package(self) -> str:
        """The package that LeRobot imports: that of the distribution's name, else the wheel's first."""
        own = re.sub(r"[-.]", "_", self.wheel.name)
        return own if own in self.wheel.packages or not self.wheel.packages else self.wheel.packages[0]

    def _answer(self) -> Mapping[str, Any]:
        """What LeRobot's discovery did with the plugin, in a clean environment; asked once a class."""
        if "answer" not in self._made:
            said = self._in_environment(lambda env: env.run(program(), self.package))
            self._made["answer"] = json.loads(said)
        answer: Mapping[str, Any] = self._made["answer"]
        return answer

    def _in_environment(self, use: Any) -> str:
        """The last line of what `use` makes of an environment in which the plugin is installed."""
        if not can_install():
            skip("neither uv nor pip is installed here, so nothing can be installed elsewhere")
        folder = self.new_folder()
        wheels = [wheel_of(need, folder) for need in self.needs]
        without = [self.wheel.name, *(Wheel(wheel).name for wheel in wheels), *self._strangers()]
        environment = self.make_environment(folder / "environment", without)
        if wheels:
            environment.install(*wheels)
        before = environment.files()
        file = folder / self.wheel.path.name
        file.write_bytes(self._made["file"])
        environment.install(file)
        try:
            said: str = use(environment)
        finally:
            environment.uninstall(self.wheel.name)
        self._made["left"] = environment.files() - before
        return said.strip().splitlines()[-1]

    def _strangers(self) -> list[str]:
        """Other plugins installed here: LeRobot would import them too, and this one be blamed."""
        required = {canonicalize_name(Requirement(line).name) for line in self.wheel.requires}
        plugins = [
            each.name for each in survey() if each.name.startswith(PREFIXES) or each.plugin_entry_points
        ]
        return [name for name in plugins if canonicalize_name(name) not in required]

    def _requirement(self, name: str) -> SpecifierSet | None:
        """What the wheel says about the versions of one requirement; None when it does not name it."""
        found = [Requirement(line) for line in self.wheel.requires]
        mine = [r for r in found if canonicalize_name(r.name) == name and "extra" not in str(r.marker or "")]
        return SpecifierSet(",".join(str(r.specifier) for r in mine if str(r.specifier))) if mine else None

    def _allowed(self, name: str) -> bool:
        return canonicalize_name(name) in {canonicalize_name(each) for each in self.may_need}

    @classmethod
    def for_choice(cls, name: str, settings: Mapping[str, str]) -> type[Self]:
        """See `Contract.for_choice`; `name` is that of an installed distribution.

        What it requires and is installed here from source is built and installed with it.
        """
        if settings:
            raise CommandError(f"a distribution has no settings: {', '.join(settings)}", "leave out `--set`")
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError as error:
            raise CommandError(
                f"no distribution is installed as {name!r}", "`lerobot-ext plugins` lists those that are"
            ) from error
        members = {
            "distribution": found.metadata["Name"],
            "needs": tuple(_editable_requirements(found)),
            "__doc__": f"{cls.__name__} of `{name}`.",
        }
        return cast(type[Self], type(f"{cls.__name__}_{name}", (cls,), members))


def wheel_of(source: str | Path, out: Path) -> Path:
    """The wheel of a source folder, of a wheel's path, or of an installed distribution's name."""
    if isinstance(source, Path):
        return source if source.suffix == ".whl" else build_wheel(source, out)
    found = metadata.distribution(source)
    folder = source_folder(found)
    return build_wheel(folder, out) if folder else repack_wheel(found, out)


def _editable_requirements(distribution: metadata.Distribution) -> list[str]:
    """Names of what it requires, directly or not, that is installed editable: a link to it would be empty."""
    seen: dict[str, bool] = {}
    waiting = [distribution]
    while waiting:
        for line in waiting.pop().requires or []:
            requirement = Requirement(line)
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            name = canonicalize_name(requirement.name)
            if not applies or name in seen:
                continue
            try:
                found = metadata.distribution(name)
            except metadata.PackageNotFoundError:
                continue
            seen[name] = source_folder(found) is not None
            if seen[name]:
                waiting.append(found)
    return [name for name, editable in seen.items() if editable]


def program() -> str:
    """The text of `discovery_program`, for the interpreter of any environment."""
    return (files(__package__) / "discovery_program.py").read_text(encoding="utf-8")
