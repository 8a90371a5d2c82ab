# SPDX-License-Identifier: Apache-2.0
"""Starts the services, runs the steps, and shows what came out or what went wrong."""

from contextlib import suppress

from rich.console import Console
from rich.markup import escape

from lerobot_ext.quickstart import commands, script
from lerobot_ext.quickstart.report import Results, draw_picture, print_table, write_summary
from lerobot_ext.quickstart.runner import Runner, StepError, tail
from lerobot_ext.quickstart.services import free_ports, loopback_hub, virtual_bench
from lerobot_ext.quickstart.settings import CAMERAS, Settings
from lerobot_ext.quickstart.signals import Killed, killed_in_order
from lerobot_ext.quickstart.steps import Quickstart


def run_quickstart(settings: Settings, console: Console) -> int:
    """Run all steps; returns 0, 1 after explaining the step that failed, or the code of what ended it."""
    try:
        with killed_in_order():
            return _run(settings, console)
    except KeyboardInterrupt as end:
        with suppress(OSError):  # the terminal may be gone
            console.print("[yellow]stopped[/yellow]; bench and Hub are ended, what was written stays.")
        return end.exit_code if isinstance(end, Killed) else 130


def _run(settings: Settings, console: Console) -> int:
    settings.logs.mkdir(parents=True, exist_ok=True)
    console.print(f"[bold]lerobot_ext quickstart[/bold] in {settings.workdir} (one log a step in logs/)")
    try:
        with loopback_hub(settings.workdir / "hub", settings.workdir / "hub_client") as hub_environment:
            runner = Runner(settings.logs, {**settings.environment(), **hub_environment}, console)
            results = _run_steps(settings, runner, console)
    except StepError as failure:
        _explain(failure, console)
        return 1
    picture, figures = settings.workdir / "quickstart.png", settings.workdir / "summary.json"
    draw_picture(results, settings.eval, settings.log_freq, picture)
    write_summary(results, figures, seed=settings.seed, with_images=settings.with_images)
    print_table(results, console)
    console.print(f"picture {picture}\nfigures {figures}", highlight=False, soft_wrap=True)
    return 0


def _run_steps(settings: Settings, runner: Runner, console: Console) -> Results:
    console.print(
        "Each line after $ can be copied; the commands expect this environment (commands.sh has it all):"
    )
    for line in script.exports(runner.environment):
        console.print(f"  {line}", highlight=False, soft_wrap=True)
    try:
        sim = commands.sim(settings, free_ports(len(CAMERAS) + 1))  # and the tracker's
        with virtual_bench(runner, sim, settings.bench_dir) as (bench, control):
            return Quickstart(settings, runner, console, bench, control).run()
    finally:
        script.write(settings, runner.environment, runner.transcript)


def _explain(failure: StepError, console: Console) -> None:
    console.print(f"[bold red]failed:[/bold red] {escape(str(failure))}")
    console.print(f"  command  {escape(failure.command)}", highlight=False, soft_wrap=True)
    if failure.log is not None and failure.log.exists():
        console.print(f"  log      {failure.log}", highlight=False, soft_wrap=True)
        for line in tail(failure.log):
            console.print(f"  | {escape(line)}", highlight=False, soft_wrap=True)
    console.print(f"  [bold]try[/bold]      {escape(failure.remedy)}")
