# SPDX-License-Identifier: Apache-2.0
"""`commands.sh`: the commands of a run, in order, as a script that repeats all or some of them."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from lerobot_ext.quickstart.settings import Settings

BENCH = "bench"
"""Name of the command that runs beside all others."""

_HEAD = """\
#!/usr/bin/env bash
# The commands of this run, in order. `bash commands.sh` repeats them all, `bash commands.sh train eval` only
# these; to change one, edit it. Bench and Hub are started first and ended at the end.
# What a step has left before is moved to earlier/: LeRobot's commands do not write into a folder that exists.
set -euo pipefail
"""

_SERVICES = """\
lerobot-ext hub serve "$run/hub" --port={port} >"$run/logs/hub_again.log" 2>&1 &
hub=$!
rm -f {ready}
{bench} >"$run/logs/bench_again.log" 2>&1 &
bench=$!
trap 'kill $hub $bench 2>/dev/null || true; wait' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
until [[ -e {ready} ]] && (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null; do
    kill -0 $hub || {{ cat "$run/logs/hub_again.log"; exit 1; }}
    kill -0 $bench || {{ cat "$run/logs/bench_again.log"; exit 1; }}
    sleep 0.2
done
"""

_AGAIN = """\
wanted=" $* "
earlier="$run/earlier/$(date +%Y%m%d_%H%M%S)"
again() {  # STEP [FOLDER]: whether it is wanted; what it left before is moved away
    [[ $wanted == "  " || $wanted == *" $1 "* ]] || return 1
    printf '\\n== %s\\n' "$1"
    if [[ -n ${2-} && -e $run/$2 ]]; then
        mkdir -p "$earlier"
        mv "$run/$2" "$earlier/"
    fi
}
"""


def write(
    settings: Settings, environment: Mapping[str, str], commands: Sequence[tuple[str, Sequence[str]]]
) -> None:
    """Write `commands.sh` into the run's folder.

    Args:
        settings (`Settings`): Of the run.
        environment (`Mapping[str, str]`): What each command needs beyond the caller's; it names the Hub.
        commands (`Sequence[tuple[str, Sequence[str]]]`): Each with the name of its step, the bench's first.
    """
    text = script(settings, environment, commands, Path(sys.executable).parent)
    (settings.workdir / "commands.sh").write_text(text, encoding="utf-8")


def script(
    settings: Settings,
    environment: Mapping[str, str],
    commands: Sequence[tuple[str, Sequence[str]]],
    programs: Path,
) -> str:
    """The text of `commands.sh`; `programs` is the folder of the console scripts."""
    bench = [shlex.join(words) for name, words in commands if name == BENCH]
    services = _SERVICES.format(
        port=urlsplit(environment["HF_ENDPOINT"]).port,
        ready=shlex.quote(str(settings.bench_dir / "ready.json")),
        bench=bench[0],
    )
    steps = [_step(settings, name, words) for name, words in commands if name != BENCH]
    return "\n".join(
        [
            _HEAD + f"export PATH={shlex.quote(str(programs))}:$PATH",
            *exports(environment),
            f"\nrun={shlex.quote(str(settings.workdir))}\n" + _AGAIN,
            services,
            *steps,
            "",
        ]
    )


def exports(environment: Mapping[str, str]) -> list[str]:
    """The lines that give a shell this environment."""
    return [f"export {key}={shlex.quote(value)}" for key, value in environment.items()]


def _step(settings: Settings, name: str, words: Sequence[str]) -> str:
    folders = {
        "record": settings.recorded,
        "demos": settings.demos,
        "train": settings.train,
        "eval": settings.eval,
        "pull": settings.pulled,
    }
    command = shlex.join(words)
    if name.startswith("calibrate_"):  # ENTER at its question: the calibration of before is kept
        command = f"{command} <<<''"  # a line; a pipe would break where the question is not asked
    folder = f" {folders[name].relative_to(settings.workdir)}" if name in folders else ""
    return f"if again {name}{folder}; then\n    {command}\nfi"
