"""NF4 values of a model, dequantized once and kept in the user's cache: one file, mapped by all who load the model.

    nf4-KEY.safetensors    every parameter and every buffer, as `dequantized_once` left them
    nf4-KEY.json           from what they were made, the file's SHA-256, and the warnings that go with them

KEY is a hash of all that the values depend on: weights, config.json, dtype, double quantization, versions. The JSON is
written last, so a file without one is no file. A file that isn't what its JSON says is made again, never used.

The model around the tensors is built by transformers from the configuration, without memory of its own. Whether that
gives the model that transformers loads is compared before anything is kept; where it doesn't, nothing is.
"""

from __future__ import annotations

import errno
import gc
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from triptych.errors import DiskError, ModelError, RunBusyError
from triptych.models.cache import cache_folder, sha256_of_large_file, warn_not_kept
from triptych.models.device import trim_malloc
from triptych.models.empty_model import canonical_names, empty_model, fill, tensors_of, unlike
from triptych.models.tensor_file import bytes_of, map_tensors, why_not_writable, write_tensors
from triptych.records.identity import sha256_of
from triptych.records.process_lock import ProcessLock
from triptych.records.provenance import library_versions
from triptych.records.run_files import json_or_none
from triptych.records.store import write_json

logger = logging.getLogger(__name__)

FORMAT = 1
"""Raised when what is written, or how values are made, changes."""
_WHAT = "a model's dequantized weights"
_ROOM = 2
"""The file takes no more than this part of the free room, one half."""
_POLL = 0.2
"""Seconds between two looks at a lock."""

Made = tuple[Any, list[str]]
"""A model and the warnings about it."""


@dataclass(frozen=True)
class KeptValues:
    """The place in the cache of the values of one model, quantized one way, in one dtype."""

    folder: Path
    """The model's own, for its configuration of generation."""
    config: Any
    dtype: torch.dtype
    facts: Mapping[str, Any]
    """All that the values depend on."""

    @classmethod
    def of(cls, folder: Path, config: Any, dtype: torch.dtype, **hashes: Any) -> KeptValues:
        """The place for a model of these files; `hashes` are those of what it is made from, and how it is quantized."""
        versions = {k: v for k, v in library_versions().items() if k in ("torch", "transformers", "bitsandbytes")}
        facts = {**hashes, "dtype": str(dtype), "device": "cpu", "versions": versions, "format": FORMAT}
        return cls(folder, config, dtype, facts)

    def load(self, make: Callable[[], Made]) -> Made:
        """The model with its values mapped; where they aren't kept yet, `make` makes the model, and they are.

        One process makes them; others that load the same model meanwhile wait. What can't be kept is made all the same.
        """
        if (model := self._mapped()) is not None:
            return model
        if self._why_unfit() or not self._can_be_kept():
            return make()
        with self._only_one() as alone:
            if not alone:
                return make()
            if (model := self._mapped()) is not None:  # made while this process waited
                return model
            return self._kept(*make())

    @property
    def _record(self) -> Path:
        return cache_folder() / f"nf4-{sha256_of(self.facts)[:24]}.json"

    @property
    def _file(self) -> Path:
        return self._record.with_suffix(".safetensors")

    def _read_record(self) -> dict[str, Any]:
        record = json_or_none(self._record)
        return record if isinstance(record, dict) and record.get("facts") == self.facts else {}

    def _why_unfit(self) -> str | None:
        """Why an earlier process found that this model can't be kept, if one did."""
        reason = self._read_record().get("unfit")
        return str(reason) if reason else None

    def _mapped(self) -> Made | None:
        record = self._read_record()
        if "sha256" not in record:
            return None
        try:
            if sha256_of_large_file(self._file) != record["sha256"]:
                raise ValueError("its content is not what was written")
            tensors = map_tensors(self._file)
            model = empty_model(self.config, self.dtype, self.folder)
            fill(model, tensors, record["same"])
        except (OSError, ValueError, LookupError, TypeError, ModelError) as error:
            logger.warning("%s in the cache are made again: %s", _WHAT, error)
            return None
        return model, [str(warning) for warning in record["warnings"]]

    def _kept(self, model: Any, warnings: list[str]) -> Made:
        """Keep a model's values, and give the model that maps them: then all processes hold the same one copy."""
        tensors, same = tensors_of(model), canonical_names(model)
        reason = why_not_writable(tensors) or unlike(model, lambda: empty_model(self.config, self.dtype, self.folder))
        try:
            if reason:
                logger.debug("the values of %s are not kept: %s", type(model).__name__, reason)
                write_json(self._record, {"facts": dict(self.facts), "unfit": reason})
                return model, warnings
            needed, free = bytes_of(tensors), shutil.disk_usage(cache_folder()).free
            if free < _ROOM * needed:
                found = f"{needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
                raise OSError(errno.ENOSPC, f"too large for this disk: {found}")
            sha256 = self._write(tensors)
            write_json(
                self._record,
                {"facts": dict(self.facts), "sha256": sha256, "warnings": warnings, "same": same},
            )
            self._remove_older()
            mapped = self._mapped()
            if mapped is None:  # a file system that maps no files, say: don't write it again each time
                self._file.unlink(missing_ok=True)
                write_json(self._record, {"facts": dict(self.facts), "unfit": "its file can't be used where it is"})
                return model, warnings
        except (OSError, DiskError) as error:
            warn_not_kept(_WHAT, error)
            return model, warnings
        del model, tensors
        gc.collect()  # modules refer to each other, and the values are a second copy now
        trim_malloc()
        return mapped

    def _write(self, tensors: Mapping[str, Tensor]) -> str:
        with tempfile.NamedTemporaryFile(dir=cache_folder(), prefix=f"{self._file.name}.", delete=False) as file:
            part = Path(file.name)
        try:
            sha256 = write_tensors(part, tensors)
            part.replace(self._file)
        finally:
            part.unlink(missing_ok=True)
        return sha256

    def _remove_older(self) -> None:
        """Remove what other versions made of the same: each is as large as the model."""
        changing = {"versions", "format"}
        mine = {key: value for key, value in self.facts.items() if key not in changing}
        for path in cache_folder().glob("nf4-*.json"):
            record = json_or_none(path)
            facts = record.get("facts") if isinstance(record, dict) else None
            if path == self._record or not isinstance(facts, dict):
                continue
            if {key: value for key, value in facts.items() if key not in changing} == mine:
                for old in (path, path.with_suffix(".safetensors")):
                    old.unlink(missing_ok=True)

    def _can_be_kept(self) -> bool:
        try:
            cache_folder().mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=cache_folder()):
                return True
        except OSError as error:
            warn_not_kept(_WHAT, error)
            return False

    @contextmanager
    def _only_one(self) -> Iterator[bool]:
        """Wait until no other process makes the same; False where the cache has no room for a lock."""
        lock = ProcessLock(cache_folder(), of=self._record.stem)
        try:
            _wait_for(lock)
        except (OSError, DiskError) as error:
            warn_not_kept(_WHAT, error)
            yield False
            return
        try:
            yield True
        finally:
            lock.release()


def _wait_for(lock: ProcessLock) -> None:
    waits = False
    while True:
        try:
            lock.acquire()
            return
        except RunBusyError:
            if not waits:
                logger.info("another process dequantizes the same model: waiting for it")
            waits = True
            time.sleep(_POLL)
