"""A YAML file as values and as nodes, which know their lines. Keys that stand twice and endless aliases are refused."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from triptych.errors import ConfigError
from triptych.records.disk import LARGEST, TooLargeError, read_small

_LARGEST = 100_000
"""Values in a file, anchors written out: ten lines of aliases of aliases can stand for more than memory holds."""
_NAMED = 10


def read_text(path: Path, *, kind: str = "configuration") -> str:
    """A text file, or one clear error.

    Raises:
        ConfigError: it isn't there (the nearest YAML is named), is too large, or isn't UTF-8.
    """
    try:
        return read_small(path).replace("\r\n", "\n")
    except TooLargeError as error:
        raise ConfigError(
            f"the {kind} file is too large",
            where=str(path),
            found=str(error),
            expected=f"a YAML file of at most {LARGEST:,} bytes",
            fix="give the settings, not the data; remove what isn't needed",
        ) from error
    except FileNotFoundError as error:
        siblings = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, siblings, n=1)
        raise ConfigError(
            f"there is no such {kind} file",
            where=str(path),
            found=", ".join(sorted(siblings)) or "no YAML file in that folder",
            fix=f"did you mean {path.parent / near[0]}?" if near else "check the path",
        ) from error
    except (ValueError, OSError) as error:  # ValueError: not UTF-8, or a NUL in the name
        raise ConfigError(
            f"the {kind} can't be read",
            where=str(path),
            found=getattr(error, "strerror", None) or "bytes that are not UTF-8",
            expected="a YAML file in UTF-8",
        ) from error


def load_yaml(text: str, path: Path) -> tuple[Any, yaml.Node | None]:
    """The value of a YAML text, and its node; both None for a text without any.

    Raises:
        ConfigError: not YAML, a key that stands twice in a mapping, or aliases that contain themselves or make the
            file very large.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            return None, None
        if _size(node, {}, set(), path) > _LARGEST:
            raise ConfigError(
                "the configuration is very large once its aliases are written out",
                where=str(path),
                expected=f"at most {_LARGEST} values",
                fix="write the values out instead of `*name`, or remove those that aren't needed",
            )
        _check_keys(node, path)
        return yaml.safe_load(text), node
    # ValueError and its kin: something like a date that is none; RecursionError: thousands of brackets
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise _not_yaml(path, error) from error


def line_of(node: yaml.Node | None, location: Sequence[object]) -> int:
    """Line of the deepest part of a key that is in the file, from 1."""
    line = 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in reversed(node.value) if k.value == str(part)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _check_keys(node: yaml.Node, path: Path) -> None:
    """YAML's own rule, which its parser doesn't keep: of two equal keys the last would win, silently."""
    repeated = list(_repeated(node, "", set()))
    if not repeated:
        return
    key, first, again = repeated[0]
    if len(repeated) == 1:
        raise ConfigError(
            f"the key `{key}` stands twice",
            where=f"{path}, line {again}",
            found=f"`{key}` on line {first} and on line {again}",
            expected="every key once in a section",
            fix="keep one of the two lines, or put what is below the second under the first",
        )
    lines = [f"`{key}` on line {first} and on line {again}" for key, first, again in repeated[:_NAMED]]
    more = [f"… and {len(repeated) - _NAMED} more"] if len(repeated) > _NAMED else []
    raise ConfigError(
        f"{len(repeated)} keys stand twice",
        where=str(path),
        found="\n    ".join(["", *lines, *more]),
        expected="every key once in a section",
        fix="keep one line of each",
    )


def _repeated(node: yaml.Node, at: str, seen: set[int]) -> Iterator[tuple[str, int, int]]:
    """(dotted key, first line, line of the repetition); a node that has aliases is looked at once."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, inner in enumerate(node.value):
            yield from _repeated(inner, f"{at}.{number}" if at else str(number), seen)
    if not isinstance(node, yaml.MappingNode):
        return
    first: dict[tuple[str, str], yaml.ScalarNode] = {}
    for key, inner in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue  # safe_load refuses it
        line, name = key.start_mark.line + 1, f"{at}.{key.value}" if at else str(key.value)
        if (same := first.setdefault((key.tag, key.value), key)) is not key:
            yield name, same.start_mark.line + 1, line
        yield from _repeated(inner, name, seen)


def _size(node: yaml.Node, sizes: dict[int, int], open_nodes: set[int], path: Path) -> int:
    if isinstance(node, yaml.ScalarNode):
        _check_whole(node, path)
        return 1
    if id(node) in open_nodes:
        raise ConfigError(
            "an alias stands inside what it names",
            where=f"{path}, line {node.start_mark.line + 1}",
            found="`&name` with `*name` below it",
            fix="write the value out",
        )
    if id(node) not in sizes:
        open_nodes.add(id(node))
        pairs = node.value if isinstance(node, yaml.SequenceNode) else [inner for pair in node.value for inner in pair]
        sizes[id(node)] = 1 + sum(_size(inner, sizes, open_nodes, path) for inner in pairs)
        open_nodes.discard(id(node))
    return sizes[id(node)]


def _check_whole(node: yaml.ScalarNode, path: Path) -> None:
    """No half characters: neither a file's name nor a record can hold one."""
    if not node.value.isascii() and any("\ud800" <= character <= "\udfff" for character in node.value):
        raise ConfigError(
            "a text holds half a character",
            where=f"{path}, line {node.start_mark.line + 1}",
            found=ascii(node.value)[:100],
            expected="text that can be written as UTF-8",
            fix="write the whole character there",
        )


def _not_yaml(path: Path, error: Exception) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    place = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
    deep = isinstance(error, RecursionError)
    found = "brackets inside brackets, too deep to read" if deep else str(getattr(error, "problem", None) or error)
    return ConfigError(
        "the configuration is not YAML",
        where=place,
        found=ascii(found)[1:-1][:300] if not found.isprintable() else found[:300],
        fix="in double quotes a backslash begins an escape: write the text in single quotes, or a path with / for \\"
        if "escape" in str(error)
        else "check the indentation and that texts with `:` or `{` are quoted",
    )
