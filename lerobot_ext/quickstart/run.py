# SPDX-License-Identifier: Apache-2.0
"""Starts the services, runs the steps, and shows what came out or what went wrong."""

import shlex

from rich.console import Console
from rich.markup import escape

from lerobot_ext.quickstart import commands
from lerobot_ext.quickstart.report import Results, draw_picture, print_table, write_summary
from lerobot_ext.quickstart.runner import Runner, StepError, tail
from lerobot_ext.quickstart.services import loopback_hub, virtual_bench
from lerobot_ext.quickstart.settings import Settings
from lerobot_ext.quickstart.steps import Quickstart


def run_quickstart(settings: Settings, console: Console) -> int:
    """Run all steps; returns 0, or 1 after explaining the step that failed."""
    settings.logs.mkdir(parents=True, exist_ok=True)
    runner = Runner(settings.logs, settings.environment(), console)
    console.print(f"[bold]lerobot_ext quickstart[/bold] in {settings.workdir} (one log a step in logs/)")
    console.print("Each line after $ can be copied; they expect this environment:")
    for key, value in settings.environment().items():
        console.print(f"  export {key}={shlex.quote(value)}", highlight=False, soft_wrap=True)
    try:
        results = _run_with_services(settings, runner, console)
    except StepError as failure:
        _explain(failure, console)
        return 1
    except KeyboardInterrupt:
        console.print("[yellow]stopped[/yellow]; bench and Hub are ended, what was written stays.")
        return 130
    finally:
        _write_transcript(settings, runner)
    picture = settings.workdir / "quickstart.png"
    draw_picture(results, settings.eval, settings.log_freq, picture)
    write_summary(
        results, settings.workdir / "summary.json", seed=settings.seed, with_images=settings.with_images
    )
    print_table(results, console)
    console.print(
        f"picture {picture}\nfigures {settings.workdir / 'summary.json'}", highlight=False, soft_wrap=True
    )
    return 0


def _run_with_services(settings: Settings, runner: Runner, console: Console) -> Results:
    console.print("[bold]0[/bold]    Start the virtual bench and a Hub on loopback")
    hub_root = settings.workdir / "hub"
    with (
        loopback_hub(hub_root) as hub_environment,
        virtual_bench(runner, commands.sim(settings), settings.bench_dir) as (bench, control),
    ):
        run = Quickstart(settings, runner, console, bench, control, hub_environment, hub_root)
        return run.run()


def _explain(failure: StepError, console: Console) -> None:
    console.print(f"[bold red]failed:[/bold red] {escape(str(failure))}")
    console.print(f"  command  {escape(failure.command)}", highlight=False, soft_wrap=True)
    if failure.log is not None and failure.log.exists():
        console.print(f"  log      {failure.log}", highlight=False, soft_wrap=True)
        for line in tail(failure.log):
            console.print(f"  | {escape(line)}", highlight=False, soft_wrap=True)
    console.print(f"  [bold]try[/bold]      {escape(failure.remedy)}")


def _write_transcript(settings: Settings, runner: Runner) -> None:
    """Keep the commands with their environment, to read or to run again one by one."""
    exports = [f"export {k}={shlex.quote(v)}" for k, v in settings.environment().items()]
    text = "\n".join(["# the commands of this run, in order", *exports, *runner.transcript])
    (settings.workdir / "commands.sh").write_text(text + "\n")
