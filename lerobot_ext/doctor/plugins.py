# SPDX-License-Identifier: Apache-2.0
"""Turns what was found in metadata and at import into findings, each with its remedy."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata

from lerobot_ext.doctor.findings import Finding, is_ok, note, problem, problems_first
from lerobot_ext.doctor.probe import Probe, run_probe
from lerobot_ext.doctor.survey import CORE, PREFIXES, PluginDistribution, survey, underscored
from lerobot_ext.installing import install_command

# `pip check` and our own messages name LeRobot's prefixes this way.
_PREFIX_LIST = ", ".join(f"{prefix}…" for prefix in PREFIXES)
_CLASS = re.compile(r"<class '([\w.]+)'>")


@dataclass(frozen=True)
class Row:
    """One plugin distribution as the listing shows it.

    Args:
        name (`str`), version (`str`): The distribution.
        loaded_by (`str`): `LeRobot` (by its name), `lerobot_ext` (by its entry point), `itself` (the core's
            commands) or `nobody`.
        registers (`list[str]`): What it added to LeRobot's registries, and its `lerobot-ext` commands.
        status (`str`): `ok` or the kinds of its problems.
    """

    name: str
    version: str
    loaded_by: str
    registers: list[str]
    status: str


@dataclass(frozen=True)
class Examination:
    """Everything the doctor found out."""

    lerobot: str
    lerobot_ext: str
    rows: list[Row] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there is no problem; notes are allowed."""
        return is_ok(self.findings)


def examine() -> Examination:
    """Read this environment's metadata, import everything in a child process, draw the conclusions."""
    distributions = survey()
    probe = run_probe(d.name for d in distributions if d.discovered)
    return conclude(distributions, probe)


def conclude(distributions: list[PluginDistribution], probe: Probe) -> Examination:
    """Findings and rows from what was seen.

    Args:
        distributions (`list[PluginDistribution]`): The plugins installed.
        probe (`Probe`): What happened when they were imported.
    """
    findings = list(_about_lerobot(probe))
    for distribution in distributions:
        findings += _about_name(distribution)
        findings += _about_requirements(distribution)
        findings += _about_import(distribution, distributions, probe)
    findings += _about_loader(distributions, probe)
    findings += _about_commands(distributions, probe)
    findings += _about_overrides(distributions, probe)
    findings = problems_first(findings)
    rows = [_row(d, probe, findings) for d in distributions]
    return Examination(_version("lerobot"), _version(CORE), rows, findings)


def _about_lerobot(probe: Probe) -> Iterator[Finding]:
    if probe.lerobot_error:
        yield problem(
            "lerobot",
            "lerobot",
            f"LeRobot itself does not import: {probe.lerobot_error}",
            "reinstall it: `pip install --force-reinstall 'lerobot>=0.6.1,<0.7'`",
        )
    if probe.ended:
        yield problem(
            "lerobot",
            "lerobot",
            f"the process that imports LeRobot and every plugin {probe.ended}: nothing is known of them",
            "try again when the machine is less busy; `lerobot-train --help` shows what LeRobot itself says",
        )


def _about_name(distribution: PluginDistribution) -> Iterator[Finding]:
    """A name that LeRobot passes over; no matter when our loader brings the plugin in."""
    near = distribution.near_prefix
    if near is None or distribution.plugin_entry_points or distribution.name == CORE:
        return
    module = underscored(distribution.name)
    by_hand = f"until then add `--plugin.discover_packages_path={module}` to the command"
    if near and module.startswith(near):
        yield problem(
            "hyphen",
            distribution.name,
            f"LeRobot never imports it: it looks for names that begin with `{near}`, letter by letter",
            f'its author must write `name = "{module}"` in pyproject.toml, with underscores; {by_hand}',
        )
    else:
        advice = (
            f"begin its name with `{near}`"
            if near
            else 'declare an entry point in group "lerobot_ext.plugins"'
        )
        yield problem(
            "prefix",
            distribution.name,
            f"LeRobot never imports it: its name begins with none of {_PREFIX_LIST}",
            f"its author must {advice}; {by_hand}",
        )


def _about_requirements(distribution: PluginDistribution) -> Iterator[Finding]:
    if not distribution.lerobot_fits:
        wanted = f"lerobot{distribution.lerobot_requirement}"
        yield problem(
            "window",
            distribution.name,
            f"it asks for {wanted}, installed is {_version('lerobot')}",
            f"install a version of {distribution.name} for this LeRobot, or `pip install '{wanted}'`",
        )
    for requirement in distribution.unmet:
        yield problem(
            "requirement",
            distribution.name,
            f"it needs {requirement}, which is not installed in that version",
            f"`pip install '{requirement}'`",
        )
    if distribution.copies > 1:
        yield note(
            "duplicate",
            distribution.name,
            f"its metadata is on the path {distribution.copies} times; only the first counts",
            f"delete the left-over `{underscored(distribution.name)}*.egg-info` or `.dist-info` folder",
        )


def _about_import(
    distribution: PluginDistribution, everyone: list[PluginDistribution], probe: Probe
) -> Iterator[Finding]:
    """What went wrong when LeRobot, or else our loader, imported it."""
    failure = probe.failures.get(distribution.name)
    if failure is None:
        failed = (
            r for r in probe.reports if r["status"] == "failed" and r["distribution"] == distribution.name
        )
        for entry in failed:
            clash = _clash(distribution, everyone, entry["error"])
            yield clash or problem(
                "entry_point",
                distribution.name,
                f"its entry point `{entry['name']} = {entry['module']}` fails: {entry['error']}",
                entry["remedy"],
            )
        return
    yield _clash(distribution, everyone, failure["error"]) or _import_finding(distribution, failure)


def _import_finding(distribution: PluginDistribution, failure: dict[str, str]) -> Finding:
    """A plugin that LeRobot finds but cannot import."""
    name, missing = distribution.name, failure["missing"]
    packages = [package for package in distribution.packages if package != name]
    at = f" (at {failure['where']})" if failure["where"] else ""
    kind = "import"
    message = f"LeRobot cannot import it: {failure['error']}{at}"
    if missing == name:
        kind = "package_name"
        holds = f"holds {', '.join(map(repr, packages))}" if packages else "has no such module"
        message = f"LeRobot imports a module named like the distribution, {name!r}, but it {holds}"
        remedy = "its author must name distribution and package alike"
        if packages:
            remedy += f"; until then add `--plugin.discover_packages_path={packages[0]}` to the command"
        else:
            remedy += f"; if the installation is damaged, `pip install --force-reinstall {name}`"
    elif not distribution.lerobot_fits:
        remedy = (
            f"it is made for lerobot{distribution.lerobot_requirement}: install versions that fit each other"
        )
    elif missing.partition(".")[0] == "lerobot":
        remedy = f"it is made for another LeRobot than {_version('lerobot')}: update {name} or LeRobot"
    elif missing:
        package = missing.partition(".")[0]
        remedy = (
            f"`pip install --force-reinstall {name}` brings what it declares; if {package!r} stays missing, "
            f"install "
            "the package that provides it"
        )
    else:
        remedy = f"run `python -c 'import {name}'` to see the whole error, then update or uninstall {name}"
    return problem(kind, name, message, remedy)


def _clash(
    distribution: PluginDistribution, everyone: list[PluginDistribution], error: str
) -> Finding | None:
    """Two distributions that register one name, told from the registry's error."""
    if "already registered" not in error:
        return None
    classes = _CLASS.findall(error)
    owners = {_owner(path, everyone) for path in classes} - {distribution.name}
    other = ", ".join(sorted(owners)) or "another plugin"
    return problem(
        "clash",
        distribution.name,
        f"it registers a name that {other} has taken: {error}",
        f"uninstall {distribution.name} or {other}; only one plugin can have the name"
        if other != "lerobot"
        else f"update {distribution.name}, or uninstall it: LeRobot has a part of that name itself",
    )


def _about_loader(distributions: list[PluginDistribution], probe: Probe) -> Iterator[Finding]:
    """Plugins that only our loader brings in, when nothing that LeRobot imports starts the loader."""
    if probe.loader_started or probe.lerobot_error or probe.ended:
        return
    for distribution in distributions:
        if not distribution.plugin_entry_points or distribution.discovered:
            continue
        core = distribution.name == CORE
        yield (note if core else problem)(
            "loader",
            distribution.name,
            "no stock command line loads it: LeRobot does not look for its name, and no installed plugin "
            "that LeRobot "
            "imports asks for the rest",
            f"install a lerobot_ext plugin, such as `{install_command('lerobot_robot_koch')}`",
        )


def _about_commands(distributions: list[PluginDistribution], probe: Probe) -> Iterator[Finding]:
    providers: dict[str, list[str]] = {}
    for distribution in distributions:
        for command in distribution.commands:
            providers.setdefault(command, []).append(distribution.name)
    for command, broken in probe.commands.items():
        owner = ", ".join(providers.get(command, ["unknown"]))
        yield problem("command", owner, broken["error"], broken["remedy"])
    for command, names in providers.items():
        if len(names) > 1:
            winner = CORE if CORE in names else min(names)
            others = [name for name in names if name != winner]
            yield problem(
                "command_clash",
                others[0],
                f"{' and '.join(names)} both bring `lerobot-ext {command}`; {winner}'s runs",
                f"uninstall {' or '.join(others)}, or ask its author to rename the command",
            )


def _about_overrides(distributions: list[PluginDistribution], probe: Probe) -> Iterator[Finding]:
    for override in probe.overrides:
        if override["problem"]:
            owner = _owner(override["package"], distributions)
            message, _, remedy = override["problem"].partition("; ")
            yield problem("override", owner, f"its replacement was lost: {message}", remedy)


def _owner(path: str, distributions: list[PluginDistribution]) -> str:
    """The distribution a class belongs to, else its top-level package."""
    package = path.partition(".")[0]
    for distribution in distributions:
        if package in (underscored(distribution.name), *distribution.packages, *_modules(distribution)):
            return distribution.name
    return package


def _modules(distribution: PluginDistribution) -> list[str]:
    """Top-level packages that its entry points name."""
    return [
        re.split(r"[.:\s]", entry.partition("=")[2].strip())[0] for entry in distribution.plugin_entry_points
    ]


def _row(distribution: PluginDistribution, probe: Probe, findings: list[Finding]) -> Row:
    packages = {underscored(distribution.name), *distribution.packages, *_modules(distribution)}
    registers = [name for package in sorted(packages) for name in probe.registered.get(package, [])]
    registers += [f"command {name}" for name in sorted(distribution.commands)]
    kinds = [f.kind for f in findings if f.subject == distribution.name and f.level == "problem"]
    if distribution.discovered:
        loaded_by = "LeRobot"
    elif distribution.plugin_entry_points:
        loaded_by = CORE if probe.loader_started else "nobody"
    else:
        loaded_by = "-" if distribution.commands else "nobody"
    status = ", ".join(dict.fromkeys(kinds)) or "ok"
    return Row(distribution.name, distribution.version, loaded_by, registers, status)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
