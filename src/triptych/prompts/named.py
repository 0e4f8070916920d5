"""Finding a template by name, file or literal text."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from triptych.errors import TemplateError
from triptych.prompts.template import Template, template_from_mapping
from triptych.records.disk import at_home, read_small


def catalogue() -> dict[str, Template]:
    """The prompts that ship, by name."""
    return dict(_catalogue())


@cache
def _catalogue() -> dict[str, Template]:
    folder = files("triptych.prompts") / "catalogue"  # as a package it would take this function's name
    templates = {}
    for entry in sorted(folder.iterdir(), key=lambda e: e.name.removesuffix(".yaml")):
        if entry.name.endswith(".yaml"):
            name = entry.name.removesuffix(".yaml")
            value = yaml.safe_load(entry.read_text(encoding="utf-8"))
            templates[name] = template_from_mapping(value, name=name, where=f"catalogue {entry.name}")
    return templates


def find_template(name: str, extra: Mapping[str, Template] | None = None, *, where: str | None = None) -> Template:
    """A template by name, from the user's own first, then the catalogue.

    Args:
        name: the prompt's name.
        extra: the user's own, by name.
        where: the key or option that names it, for the message.

    Raises:
        TemplateError: there is none of that name; the nearest is named.
    """
    templates = {**catalogue(), **(extra or {})}
    if name in templates:
        return templates[name]
    near = difflib.get_close_matches(name, templates, n=1)
    own = "`triptych score` takes your own with --template, `triptych run` under `prompts:` in its YAML"
    raise TemplateError(
        f"there is no prompt named `{name}`",
        where=where or f"prompt {name!r}",
        expected=", ".join(sorted(templates)),
        fix=(f"did you mean `{near[0]}`? " if near else "") + f"`triptych prompts list` describes them; {own}",
    )


def template_from_text(text: str, *, name: str | None = None) -> Template:
    """A template from a `.yaml` file, a `.txt` file, or the text itself (which must hold `{instruction}`).

    Args:
        text: path or literal text.
        name: the template's name; else the file's stem, else `custom`.
    """
    looks_like_path = "{" not in text and "\n" not in text
    if not looks_like_path:
        return template_from_mapping({"zero_shot": text}, name=name or "custom", where="the template's text")
    path = Path(at_home(text))
    try:
        content = read_small(path, encoding="utf-8-sig").replace("\r\n", "\n")
    except (OSError, ValueError) as error:  # not UTF-8, too large, a NUL in the name
        raise TemplateError(
            "a template is neither a readable file nor a text with {instruction}",
            where=text,
            found=str(error),
            fix="name a .yaml or .txt file, or give the text itself with {instruction} in it",
        ) from error
    if path.suffix == ".txt":
        mapping: Any = {"zero_shot": content.removesuffix("\n")}
    else:
        try:
            mapping = yaml.safe_load(content)
        # ValueError and the like: an impossible date, say; RecursionError: thousands of nested brackets
        except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise TemplateError("a template file is not YAML", where=str(path), found=str(error)[:500]) from error
    if not isinstance(mapping, Mapping):
        raise TemplateError("a template file is not a mapping", where=str(path), expected="a key `zero_shot`")
    return template_from_mapping({**mapping, **({"name": name} if name else {})}, name=path.stem, where=str(path))
