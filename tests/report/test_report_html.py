"""What `report.html` holds and refuses, without a browser."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_run import instruction_of, make_run, save_run, save_texts

from triptych.errors import DataError
from triptych.records.texts import write_rows
from triptych.report import build_report
from triptych.report.html.packing import FIRST, LOG_STEP, NLL_STEP, pack, pack_logs, pack_nll


def unpacked(path: Path) -> dict[str, bytes]:
    text = path.read_text(encoding="utf-8")
    tags = re.findall(r'<script type="application/octet-stream" id="data-([\w-]+)">([^<]*)</script>', text)
    return {name: gzip.decompress(base64.b64decode(packed)) for name, packed in tags}


def test_scores_survive_packing() -> None:
    columns = [[0.0, 1.23456, 31.0], [0.0004, 1.2, 40.0]]
    raw = np.frombuffer(gzip.decompress(base64.b64decode(pack_logs(columns))), dtype=np.uint8).astype(np.int64)
    steps = (raw[:6] << 8 | raw[6:]).reshape(2, 3)
    found = (np.cumsum(steps, axis=0) & 0xFFFF) * LOG_STEP
    assert found == pytest.approx(np.minimum(columns, 65535 * LOG_STEP), abs=LOG_STEP / 2)
    assert pack(b"same") == pack(b"same")
    assert pack_logs([]) == pack(b"")


def test_token_nll_keeps_one_decimal() -> None:
    values = [0.0, 0.04, 0.05, 1.26, 9.99, 24.0, 400.0]
    shown = [(ord(c) - FIRST) * NLL_STEP for c in json.loads(json.dumps(pack_nll([values])[0]))]
    assert shown == pytest.approx([0.0, 0.0, 0.1, 1.3, 10.0, 24.0, 25.0])
    assert pack_nll([[], values, [0.1]]) == ["", pack_nll([values])[0], "$"]
    assert pack_nll([]) == []


def test_it_asks_the_network_for_nothing_and_has_its_policy(tmp_path: Path) -> None:
    record, items = make_run(30)
    save_run(tmp_path, record, items)
    build_report(tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "default-src &#39;none&#39;" in text
    shell = re.sub(r"<script\b.*?</script>", "", text, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?!#|data:)', shell)
    assert text.index("Use QLoRA") < text.index('id="tables"') < text.index('id="provenance"')


def test_texts_can_be_left_out(tmp_path: Path) -> None:
    record, items = make_run(30)
    save_run(tmp_path, record, items)
    save_texts(tmp_path, items)
    build_report(tmp_path, texts=False)
    parts = unpacked(tmp_path / "report.html")
    assert "texts" not in parts
    assert not any(name.startswith("chunk") for name in parts)
    line = instruction_of(1).splitlines()[1]
    held = b"".join(parts.values()) + b"".join(
        p.read_bytes() for p in tmp_path.rglob("*") if p.suffix in (".md", ".csv")
    )
    assert line.encode() not in held
    assert "句之譯文也".encode() not in held
    assert "left out of this report" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert json.loads(parts["rows"])["slices"].keys() >= {"direction"}


@pytest.mark.parametrize("name", ["rows.parquet", "tokens.parquet"])
def test_torn_texts_are_named_with_a_way_out(tmp_path: Path, name: str) -> None:
    record, items = make_run(30)
    save_run(tmp_path, record, items)
    save_texts(tmp_path, items)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:200])
    with pytest.raises(DataError, match=r"(?s)torn.*delete this file"):
        build_report(tmp_path)


def test_texts_of_another_run_are_refused(tmp_path: Path) -> None:
    record, items = make_run(30)
    save_run(tmp_path, record, items)
    rows = save_texts(tmp_path, items)
    save_texts(tmp_path, {**items, "qlora/default": items["zero_shot/default"]})
    with pytest.raises(DataError, match=r"(?s)tokens.parquet.*qlora/default"):
        build_report(tmp_path)
    save_texts(tmp_path, items)
    write_rows(tmp_path / "rows.parquet", {"test": list(rows.values())[1:]})
    with pytest.raises(DataError, match=r"(?s)rows.parquet.*row-000"):
        build_report(tmp_path)


def test_a_run_of_one_cell_or_of_training_only_has_its_page(tmp_path: Path) -> None:
    record, items = make_run(5)
    changes: list[dict[str, Any]] = [
        {"cells": record.cells[:1], "few_shot": (), "comparisons": (), "curve": (), "tune": None},
        {"cells": (), "few_shot": (), "comparisons": ()},
    ]
    for place, change in enumerate(changes):
        less = record.model_copy(update=change)
        folder = save_run(tmp_path / str(place), less, {cell.cell: items[cell.cell] for cell in less.cells})
        build_report(folder)
        assert "<h1>" in (folder / "report.html").read_text(encoding="utf-8")
