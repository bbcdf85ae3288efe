"""The page itself: template, styles, scripts and data put into one file that asks for nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from pathlib import Path
from typing import Any

from opinionlm.errors import UserError
from opinionlm.utils.files import write_text

ASSETS = Path(__file__).parent / "assets"
# In the order in which they build on each other; together they are one script.
SCRIPTS = (
    "elements.js",
    "format.js",
    "state.js",
    "chart.js",
    "methods.js",
    "overview.js",
    "table.js",
    "curves.js",
    "bars.js",
    "confusion.js",
    "cost.js",
    "predictions.js",
    "changes.js",
    "data.js",
    "main.js",
)


def render(payload: dict[str, Any]) -> str:
    """The page as text.

    A content security policy allows nothing but this very style and script: no request leaves the page, and text from
    posts could not run even if it became markup.
    """
    style = (ASSETS / "page.css").read_text(encoding="utf-8")
    script = "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS)
    policy = (
        f"default-src 'none'; style-src '{_source(style)}'; script-src '{_source(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    page = (ASSETS / "page.html").read_text(encoding="utf-8")
    # The data come last, so that nothing in them is taken for a mark of the template.
    for mark, content in (
        ("{{policy}}", html.escape(policy)),
        ("{{title}}", html.escape(f"{payload['root']} · opinionlm")),
        ("{{style}}", style),
        ("{{script}}", script),
        ("{{data}}", embedded_json(payload)),
    ):
        page = page.replace(mark, content, 1)
    return page


def embedded_json(content: Any) -> str:
    """JSON for a script element: nothing in it can end the element or begin another.

    Lone surrogates, which UTF-8 cannot hold, become question marks.
    """
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = text.encode("utf-8", errors="replace").decode("utf-8")
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _source(content: str) -> str:
    """How a content security policy names an inline element."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def write_page(path: Path, text: str) -> None:
    """Write the page; whoever has the old one open never sees half of the new one.

    Raises:
        UserError: the place cannot be written.
    """
    if path.is_dir():
        raise UserError(f"--output: {path} is a folder; give the name of an HTML file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        raise UserError(f"--output: cannot write {path}: {error.strerror}") from error
