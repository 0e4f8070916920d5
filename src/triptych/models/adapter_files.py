"""An adapter's files, and whether they are what was saved: `triptych.json` beside them holds their hashes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from triptych.errors import ModelError
from triptych.models.cache import sha256_of_large_file
from triptych.models.weight_formats import PICKLED, require_safetensors
from triptych.records.home import is_there
from triptych.records.run_files import ADAPTER_CONFIG, ADAPTER_RECORD, ADAPTER_WEIGHTS
from triptych.records.store import read_json, write_json


def write_adapter_record(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the facts an adapter was made with, and the hashes of its files; last, when the files are whole."""
    files = {name: sha256_of_large_file(folder / name) for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)}
    write_json(folder / ADAPTER_RECORD, {**facts, "files": files})


def read_adapter_record(folder: Path) -> dict[str, Any]:
    """The facts an adapter was saved with; none for an adapter that Triptych did not make."""
    if not is_there(folder / ADAPTER_RECORD, Path.is_file):
        return {}
    facts = read_json(folder / ADAPTER_RECORD)
    if not isinstance(facts, dict):
        raise ModelError("the adapter's record holds no JSON object", where=str(folder / ADAPTER_RECORD))
    return facts


def check_adapter_files(folder: Path, *, fix: str | None = None) -> dict[str, Any]:
    """Check that a folder holds an adapter and that its files are those that were saved. Returns its record.

    Args:
        folder: the adapter's.
        fix: how to get the adapter back where its files are not what was saved.

    Raises:
        ModelError: a file is missing, is pickled, or was changed after it was saved.
    """
    there = sorted(path.name for path in folder.iterdir()) if is_there(folder, Path.is_dir) else None
    pickled = [name for name in there or () if name.startswith("adapter_model") and Path(name).suffix in PICKLED]
    if pickled and not is_there(folder / ADAPTER_WEIGHTS, Path.is_file):
        raise ModelError(
            "the adapter's weights are pickled, and a pickle can run code when it is read",
            where=str(folder),
            found=", ".join(pickled[:4]),
            expected=ADAPTER_WEIGHTS,
            fix="save the adapter as safetensors (save_pretrained of a current peft does)",
        )
    if not all(is_there(folder / name, Path.is_file) for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)):
        raise ModelError(
            "this folder holds no adapter",
            where=str(folder),
            found="no such folder" if there is None else ", ".join(there[:8]),
            expected=f"{ADAPTER_CONFIG} and {ADAPTER_WEIGHTS} (PEFT's format)",
            fix=fix,
        )
    record = read_adapter_record(folder)
    for name, saved in record.get("files", {}).items():
        sha256 = sha256_of_large_file(folder / name)
        if sha256 != saved:
            size = (folder / name).stat().st_size
            raise ModelError(
                "the adapter was changed after it was saved",
                where=str(folder / name),
                found=f"SHA-256 {sha256[:12]}…, {size:,} bytes",
                expected=f"SHA-256 {saved[:12]}…, as {ADAPTER_RECORD} beside it says",
                fix=fix or f"copy the adapter again; if it was changed on purpose, delete its {ADAPTER_RECORD}",
            )
    require_safetensors(folder / ADAPTER_WEIGHTS, what="the adapter's weights")
    return record
