"""Rows from the Hugging Face hub, for those who installed `triptych[hub]`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from triptych.data.formats import PARSERS, kind_of
from triptych.data.raw import RawRow, RawStream
from triptych.errors import DataError

__all__ = ["looks_like_hub_id", "read_hub"]

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(:[\w.-]+)?", re.ASCII)


def looks_like_hub_id(source: str) -> bool:
    """Whether "owner/name" or "owner/name:split" is meant, and not a file: no data suffix, no such folder here."""
    if _HUB_ID.fullmatch(source) is None or kind_of(source)[0] in PARSERS:
        return False
    return not Path(source.partition("/")[0]).is_dir()


def read_hub(source: str) -> RawStream:
    """Read one split of a hub data set; without ":split" the data set must have only one.

    Raises:
        DataError: `datasets` isn't installed, the data set can't be loaded, or the split isn't one of its own.
    """
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            "there is no such file, and reading from the hub needs the package `datasets`",
            where=source,
            found="no such path, and no package `datasets`",
            expected="a path to a file, or owner/name[:split] with `datasets` installed",
            fix="check the path, or run: pip install 'triptych[hub]'",
        ) from error
    name, _, split = source.partition(":")
    try:
        splits = datasets.load_dataset(name)
        chosen = _choose(splits, split, source)
        return RawStream(dict.fromkeys(chosen.column_names), _rows(chosen, source))
    except DataError:
        raise
    except Exception as error:  # network, login, a name that isn't there, a broken data set: each has its own kind
        raise _not_given(error, source) from error


def _rows(chosen: Iterable[Mapping[str, Any]], source: str) -> Iterator[RawRow]:
    try:
        for number, values in enumerate(chosen, 1):
            yield RawRow(number, dict(values))
    except Exception as error:
        raise _not_given(error, source) from error


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


def _not_given(error: Exception, source: str) -> DataError:
    text = f"{type(error).__name__}: {error}"
    other = "check the spelling, the network and `hf auth login`, or download the file and give its path"
    return DataError(
        "there is no such file, and the hub could not give this data set",
        where=source,
        found=f"{type(error).__name__}: {ascii(' '.join(str(error).split()))[:600]}",
        expected="a path to a file, or a data set on the hub that you can read",
        fix=next((fix for cause, fix in _CAUSES if re.search(cause, text)), other),
    )


def _choose(splits: Mapping[str, Any], split: str, source: str) -> Any:
    if split in splits:
        return splits[split]
    if split == "" and len(splits) == 1:
        return next(iter(splits.values()))
    first = next(iter(splits), "train")
    raise DataError(
        f"the data set has no split {split!r}" if split else "the data set has several splits and none is named",
        where=source,
        found=f"the splits {', '.join(map(repr, splits))}",
        expected="one of them",
        fix=f"write the split after a colon: {source.partition(':')[0]}:{first}",
    )
