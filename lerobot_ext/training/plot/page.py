# SPDX-License-Identifier: Apache-2.0
"""The picture as one HTML file that needs nothing else: inline SVG and a table."""

import html
import io
from collections.abc import Iterable, Sequence
from typing import Any

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1500px; padding: 0 1rem; }
svg { width: 100%; height: auto; }
table { border-collapse: collapse; }
td, th { padding: .25rem .8rem; text-align: left; border-bottom: 1px solid #ddd; }
"""


def page(figure: Any, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A page of one picture and a table below it.

    Args:
        figure: A matplotlib figure.
        title (`str`): Heading.
        columns (`Sequence[str]`): Of the table below the picture.
        rows (`Sequence[Sequence[str]]`): As long as `columns` each.
    """
    return document(title, [drawing(figure), grid(columns, rows)])


def document(title: str, parts: Iterable[str]) -> str:
    """A whole page.

    Args:
        title (`str`): Heading.
        parts (`Iterable[str]`): HTML of `heading`, `drawing` and `grid`, in this order.
    """
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n<h1>{html.escape(title)}</h1>\n{body}\n</html>\n"
    )


def heading(text: str) -> str:
    """A heading inside a page."""
    return f"<h2>{html.escape(text)}</h2>"


def paragraph(text: str) -> str:
    """A line or more of text."""
    return f"<p>{html.escape(text)}</p>"


def drawing(figure: Any) -> str:
    """A matplotlib figure as inline SVG."""
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    # What comes before is for files of their own, and names a document type elsewhere.
    return drawn.getvalue()[drawn.getvalue().index("<svg") :]


def grid(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in columns)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table>\n<tr>{head}</tr>\n{body}\n</table>"
