# SPDX-License-Identifier: Apache-2.0
"""The picture as one HTML file that needs nothing else: inline SVG and a table."""

import html
import io
from collections.abc import Sequence
from typing import Any

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1500px; padding: 0 1rem; }
svg { width: 100%; height: auto; }
table { border-collapse: collapse; }
td, th { padding: .25rem .8rem; text-align: left; border-bottom: 1px solid #ddd; }
"""


def page(figure: Any, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The page.

    Args:
        figure: A matplotlib figure.
        title (`str`): Heading.
        columns (`Sequence[str]`): Of the table below the picture.
        rows (`Sequence[Sequence[str]]`): As long as `columns` each.
    """
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    # What comes before is for files of their own, and names a document type elsewhere.
    picture = drawn.getvalue()[drawn.getvalue().index("<svg") :]
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in columns)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n<h1>{html.escape(title)}</h1>\n{picture}\n"
        f"<table>\n<tr>{head}</tr>\n{body}\n</table>\n</html>\n"
    )
