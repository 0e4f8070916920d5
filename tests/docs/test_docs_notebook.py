"""The notebook that ships: clean, of today's calls, and it runs."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"


def sources() -> list[str]:
    """The code of each code cell."""
    cells: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_it_is_kept_without_outputs() -> None:
    value = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in value["cells"] if cell["cell_type"] == "code"]
    assert len(code) >= 4
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)


@pytest.mark.slow
def test_it_runs_from_the_first_cell_to_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    shown: list[Any] = []
    for source in sources():
        *body, last = ast.parse(source).body
        if not isinstance(last, ast.Expr):
            body, last = [*body, last], ast.Expr(ast.Constant(None))
        exec(compile(ast.Module(body, []), str(NOTEBOOK), "exec"), names)
        shown.append(eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names))
    run, cells, comparisons, curve, rows, report = shown
    assert "Use QLoRA" in run._repr_html_()
    assert list(cells["strategy"]) == ["zero_shot", "zero_shot", "few_shot", "few_shot", "qlora"]
    assert len(comparisons) >= 3
    assert len(curve) >= 3
    assert len(rows) == 5
    assert (rows["ratio"] > 1).all()
    assert report.read_text(encoding="utf-8").startswith("<!doctype html>")
