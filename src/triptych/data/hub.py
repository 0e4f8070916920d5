"""Rows from the Hugging Face hub, for those who installed `triptych[hub]`: owner/name[:configuration][:split]."""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from triptych.data.formats import PARSERS, kind_of
from triptych.data.row import RawRow, RawStream
from triptych.errors import DataError
from triptych.records.disk import is_there

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(:[\w.-]+){0,2}", re.ASCII)
_WAIT = 3.0
"""Seconds for the hub to answer at all: the library itself tries for a minute, and prints every try."""
_YES = {"1", "ON", "YES", "TRUE"}


def looks_like_hub_id(source: str) -> bool:
    """Whether "owner/name" with up to two further parts is meant, and not a file: no data suffix, no such folder."""
    if _HUB_ID.fullmatch(source) is None or kind_of(source)[0] in PARSERS:
        return False
    return not is_there(source.partition("/")[0], Path.is_dir)


def read_hub(source: str) -> RawStream:
    """Read one split of a hub data set.

    The part behind one colon is the configuration if the data set has one of that name, else the split; behind a
    second colon it is the split. What is not named must be the only one.

    Raises:
        DataError: `datasets` isn't installed, the hub can't be reached, or it has no such data set, configuration or
            split.
    """
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            "there is no such file, and reading from the hub needs the package `datasets`",
            where=source,
            found="no such path, and no package `datasets`",
            expected="a path to a file, or owner/name[:configuration][:split] with `datasets` installed",
            fix="check the path, or run: pip install 'triptych[hub]'",
        ) from error
    _check_network(source)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    name, *parts = source.split(":")
    with _hub_errors(source):
        configuration, split = _parts(list(datasets.get_dataset_config_names(name)), parts, source)
        splits = datasets.load_dataset(name, configuration) if configuration else datasets.load_dataset(name)
        chosen = _choose(splits, split, source)
        return RawStream(dict.fromkeys(chosen.column_names), _rows(chosen, source))


def _parts(known: list[str], parts: list[str], source: str) -> tuple[str | None, str]:
    """The configuration, None for the only one, and the split, "" for the only one."""
    first = parts[0] if parts else ""
    if first in known:
        return first, parts[1] if len(parts) > 1 else ""
    if len(parts) < 2 and len(known) < 2:
        return None, first
    name, one = source.partition(":")[0], (known or ["main"])[0]
    listed = ", ".join(map(repr, known[:20])) + (" …" if len(known) > 20 else "")
    raise DataError(
        f"the data set has no configuration {first!r}"
        if len(parts) > 1 or first
        else "the data set has several configurations and none is named",
        where=source,
        found=f"the configurations {listed}",
        expected="one of them",
        fix=f"write it after a colon, and the split after another: {name}:{one}:train",
    )


def _check_network(source: str) -> None:
    """Fail within seconds where there is no network; with HF_HUB_OFFLINE the library looks at its own copies alone."""
    if any(os.environ.get(name, "").upper() in _YES for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")):
        return
    endpoint = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    proxy = urllib.request.getproxies().get(endpoint.scheme)
    if proxy and not urllib.request.proxy_bypass(endpoint.hostname or ""):
        endpoint = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    problem = _connects(endpoint.hostname or "", endpoint.port or (80 if endpoint.scheme == "http" else 443))
    if problem is None:
        return
    raise DataError(
        "there is no such file, and the hub can't be reached",
        where=source,
        found=f"{endpoint.hostname}: {problem}",
        expected="a path to a file, or a network connection",
        fix="check the spelling and the network, or set HF_HUB_OFFLINE=1 to use what was downloaded before",
    )


def _connects(host: str, port: int) -> str | None:
    """What keeps us from connecting; None if nothing does. Looking up a name has no time limit of its own."""
    problem = [f"no answer within {_WAIT:g} s"]

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=_WAIT).close()
            problem.clear()
        except (OSError, ValueError) as error:
            problem[:] = [str(error) or type(error).__name__]

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(_WAIT)
    return problem[0] if problem else None


def _rows(chosen: Iterable[Mapping[str, Any]], source: str) -> Iterator[RawRow]:
    with _hub_errors(source):
        for number, values in enumerate(chosen, 1):
            yield RawRow(number, dict(values))


_CAUSES = (
    (
        r"(?i)config(uration)? name is missing|BuilderConfig .* not found|one among the available configs",
        'take the configuration you mean: datasets.load_dataset(NAME, CONFIGURATION)["train"].to_json("train.jsonl"), '
        "and give that file",
    ),
    (r"(?i)gated|401|403|authenticat", "accept its terms on its page of the hub, then `hf auth login`"),
    (
        r"(?i)ConnectionError|offline|couldn't reach|connect(ion)? |timed? ?out|resolve host",
        "check the network, or download the file and give its path",
    ),
    (r"(?i)trust_remote_code|scripts are no longer supported", "download the rows as a file and give its path"),
    (
        r"(?i)DatasetNotFound|RepositoryNotFound|doesn't exist|404",
        "check the spelling (a private one needs `hf auth login`), or give the path of a file",
    ),
)
"""What `datasets` says -> what to do about it."""


@contextmanager
def _hub_errors(source: str) -> Iterator[None]:
    """Network, login, a name that isn't there, a broken data set: each raises its own kind."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        other = "check the spelling, the network and `hf auth login`, or download the file and give its path"
        raise DataError(
            "there is no such file, and the hub could not give this data set",
            where=source,
            found=f"{type(error).__name__}: {ascii(' '.join(str(error).split()))[:600]}",
            expected="a path to a file, or a data set on the hub that you can read",
            fix=next((fix for cause, fix in _CAUSES if re.search(cause, text)), other),
        ) from error


def _choose(splits: Mapping[str, Any], split: str, source: str) -> Any:
    if split in splits:
        return splits[split]
    if split == "" and len(splits) == 1:
        return next(iter(splits.values()))
    first = next(iter(splits), "train")
    before = source if split == "" else source.rpartition(":")[0]
    raise DataError(
        f"the data set has no split {split!r}" if split else "the data set has several splits and none is named",
        where=source,
        found=f"the splits {', '.join(map(repr, splits))}",
        expected="one of them",
        fix=f"write the split after a colon: {before}:{first}",
    )
