"""Finding a template by name, file or literal text, and showing it on a row of the bundled sample."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from triptych.data import read_rows, sample_folder
from triptych.errors import ConfigError, TemplateError
from triptych.prompts.demonstrations import draw_demos
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
    """A template by name, from the user's own (`extra`) first, then the catalogue; `where` is the key or option that
    names it.

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

    Without a `name` it is called as the file without its suffix, or `custom`.
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


def show_on_sample(name: str, k: int = 0) -> str:
    """What a prompt says and where it comes from, then the sample's first test row in it, with k demonstrations.

    `name` is a prompt of the catalogue, a template file, or a text with {instruction}. Demonstrations are drawn at
    random (seed 0) from the sample's training rows.

    Raises:
        TemplateError: there is no such prompt, or the template is malformed.
        ConfigError: the sample has fewer than k training rows.
    """
    own = name not in catalogue() and ("{" in name or Path(name).suffix in {".yaml", ".yml", ".txt"})
    template = template_from_text(name) if own else find_template(name)
    folder = str(sample_folder())
    row = read_rows(f"{folder}/test.json")[0]
    pool = read_rows(f"{folder}/train.json")
    if k > len(pool):
        raise ConfigError(
            "more demonstrations are asked for than the bundled sample has",
            where="--k",
            found=f"{k}, {len(pool)} training rows",
        )
    demos = draw_demos(pool, k, seed=0, draw="item", row_id=row.id)
    facts = {
        "prompt": template.name,
        "language": template.language,
        "style": template.style,
        "what it does": template.description,
        "source": template.source,
        "sha256": template.sha256,
        "row": row.id,
        "demonstrations": ", ".join(demo.id for demo in demos),
    }
    lines = [f"{fact}: {value}" for fact, value in facts.items() if value]
    turns = template.turns(row.instruction, demos)
    if template.style == "plain":
        parts = [("prompt", turns[0][1]), ("answer, which is scored", row.target())]
    else:  # the markup between the turns is the model's, and is known with the model only
        parts = [*turns, ("assistant, which is scored", row.target())]
    return "\n".join([*lines, *(f"\n--- {title}\n{text}" for title, text in parts)])
