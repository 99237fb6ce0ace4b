"""The head of every page of results: what was measured, how to read it, and the command that did it."""

from __future__ import annotations


def page(title: str, about: str, command: str, *parts: str) -> str:
    """Return a page of results as Markdown.

    Args:
        title: its heading.
        about: what was measured, and how to read the numbers; wrapped as it is.
        command: that wrote it, to be run in the project's checkout.
        parts: tables and notes.
    """
    return "\n\n".join([f"# {title}", about.strip(), f"`{command}`", *parts]) + "\n"
