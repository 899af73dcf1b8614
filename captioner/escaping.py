"""Text that somebody else wrote, made fit to be shown in a page: models and file names say what
they like. Knows nothing of the page."""

import html

from captioner.text import printable


def shown(text: str, limit: int) -> str:
    """`text` in one line of at most `limit` characters, in which everything is seen: control
    characters and those that turn the direction of writing are escapes."""
    return _cut(printable(" ".join(text[: 2 * limit].split())), limit)


def as_html(text: str, limit: int) -> str:
    """`text` as HTML that shows it the same way, with its lines as lines.

    There is no line break in the HTML, since an empty line would end a block of it in Markdown.
    """
    lines = text[: 2 * limit].strip().replace("\r\n", "\n").split("\n")
    return html.escape(_cut("\n".join(map(printable, lines)), limit)).replace("\n", "<br>")


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
