# SPDX-License-Identifier: Apache-2.0
"""Whether docstring and README of a policy's configuration say what its fields are."""

import ast
import dataclasses
import re
from typing import Any


def own_fields(config: type, base: type, *also: str) -> dict[str, Any]:
    """The fields of a configuration that `base` has not, and those named."""
    theirs = {field.name for field in dataclasses.fields(base)} - set(also)
    return {field.name: field for field in dataclasses.fields(config) if field.name not in theirs}


def check_docstring(config: type, fields: dict[str, Any]) -> None:
    """Every field stands there in its order, with its default."""
    pattern = r"^\s+(\w+) \(`[^`]+`, \*optional\*(?:, defaults to `([^`]*)`)?\)"
    documented = dict(re.findall(pattern, config.__doc__ or "", re.MULTILINE))
    assert list(documented) == [name for name in fields if name != "extra_steps"]  # its own base has that
    for name, default in documented.items():
        if default:
            assert ast.literal_eval(default) == fields[name].default, name


def check_readme(text: str, fields: dict[str, Any]) -> None:
    """Every field is a row of a table, with its default where that can be written down."""
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", text, re.MULTILINE))
    assert set(fields) <= set(rows)
    for name, field in fields.items():
        shown = rows[name].strip()
        if field.default is not dataclasses.MISSING and shown.startswith("`"):
            assert ast.literal_eval(shown.strip("`")) == field.default, name
