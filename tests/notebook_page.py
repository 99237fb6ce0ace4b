"""docs/tour.ipynb: its cells run, with the output that they have now, as Jupyter would show it.

Cells run in `docs`, in one namespace, with an empty cache and no registry of the user.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
from pathlib import Path
from typing import Any

from python_page import recordings

DOCS = Path(__file__).parents[1] / "docs"


def notebook(text: str) -> str:
    """Return the notebook with every cell's output as it is now.

    Args:
        text: of the notebook, JSON.
    """
    tree = json.loads(text)
    names: dict[str, Any] = {"__name__": "__main__"}
    with recordings(), contextlib.chdir(DOCS):
        for number, cell in enumerate(cell for cell in tree["cells"] if cell["cell_type"] == "code"):
            cell |= {
                "execution_count": number + 1,
                "outputs": outputs("".join(cell["source"]), names, number + 1),
            }
    return json.dumps(tree, ensure_ascii=False, indent=1) + "\n"


def outputs(source: str, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Return what a cell prints, and the value of its last line."""
    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    out, value = io.StringIO(), None
    with contextlib.redirect_stdout(out):
        exec(compile(ast.Module(body, []), "tour.ipynb", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "tour.ipynb", "eval"), names)
    shown: list[dict[str, Any]] = []
    if out.getvalue():
        printed = out.getvalue().splitlines(keepends=True)
        shown.append({"name": "stdout", "output_type": "stream", "text": printed})
    if value is not None:
        data = {"text/plain": repr(value).splitlines(keepends=True)}
        shown.append(
            {"data": data, "execution_count": count, "metadata": {}, "output_type": "execute_result"}
        )
    return shown
