"""A template: how an instruction, with or without demonstrations, becomes the text of a prompt.

    zero-shot   {preamble}USER: {instruction} ASSISTANT:
    few-shot    head  +  demo 1 … demo k, with nothing between them  +  tail
                 {k}      {i} {instruction} {output}                    {instruction}

How the text reaches the model is the template's style:

    plain       as it stands, the output right behind it (the study)
    chat        as the one user turn of the model's own chat template; the output is the assistant's turn
    multiturn   the zero-shot text is a user turn and a demonstration's output the assistant's turn that follows

Only the names in braces above are replaced, in one pass over the template: braces inside the data are data. Double
braces are literal ones: `{{name}}` writes `{name}`, for any name.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from triptych.data import Row
from triptych.errors import TemplateError

Style = Literal["plain", "chat", "multiturn"]

_FIELD = re.compile(r"\{(\{\w+\})\}|\{(\w+)\}")
"""A literal, `{{name}}`, or a field, `{name}`."""
_ALLOWED = {
    "zero_shot": {"preamble", "instruction"},
    "head": {"preamble", "k"},
    "demo": {"preamble", "i", "k", "instruction", "output"},
    "tail": {"preamble", "k", "instruction"},
    "system": set(),
}
_KEYS = {"name", "zero_shot", "few_shot", "preamble", "language", "source", "description", "style", "system"}
_NEEDED = {"zero_shot": {"instruction"}, "demo": {"instruction", "output"}, "tail": {"instruction"}}


def _fill(text: str, values: Mapping[str, str]) -> str:
    return _FIELD.sub(lambda match: match[1] or values.get(match[2], match[0]), text)


def pieces_of(text: str) -> list[tuple[str, str | None]]:
    """What a template's text consists of: (text, None) for what is written as it is, (name, name) for a field."""
    pieces: list[tuple[str, str | None]] = []
    literal, at = "", 0
    for match in _FIELD.finditer(text):
        literal, at = literal + text[at : match.start()] + (match[1] or ""), match.end()
        if match[2]:
            pieces += [(literal, None), (match[2], match[2])]
            literal = ""
    return [*pieces, (literal + text[at:], None)]


@dataclass(frozen=True, slots=True)
class FewShotText:
    """The three pieces of a prompt with demonstrations."""

    head: str
    demo: str
    tail: str


@dataclass(frozen=True, slots=True)
class Template:
    """A named prompt. Two templates with the same texts have the same `sha256`, also under different names."""

    name: str
    zero_shot: str
    few_shot: FewShotText
    preamble: str = ""
    language: str = ""
    source: str = ""
    description: str = ""
    style: Style = "plain"
    system: str = ""
    """Text of the system turn; only in styles with turns."""

    def prompt(self, instruction: str, demos: Sequence[Row] = ()) -> str:
        """The text before the output. No demonstrations: the zero-shot text."""
        common = {"preamble": self.preamble, "k": str(len(demos)), "instruction": instruction}
        if not demos:
            return _fill(self.zero_shot, common)
        parts = [_fill(self.few_shot.head, common)]
        for i, demo in enumerate(demos, start=1):
            of_demo = {"i": str(i), "instruction": demo.instruction, "output": demo.target()}
            parts.append(_fill(self.few_shot.demo, common | of_demo))
        return "".join([*parts, _fill(self.few_shot.tail, common)])

    def turns(self, instruction: str, demos: Sequence[Row] = ()) -> list[tuple[str, str]]:
        """The conversation before the answer, as (role, text) with roles `system`, `user` and `assistant`.

        Of a plain template it is the one turn that its prompt would be.
        """
        turns = [("system", _fill(self.system, {}))] if self.system else []
        if self.style != "multiturn":
            return [*turns, ("user", self.prompt(instruction, demos))]
        for demo in demos:
            turns += [("user", self.prompt(demo.instruction)), ("assistant", demo.target())]
        return [*turns, ("user", self.prompt(instruction))]

    def texts(self) -> dict[str, Any]:
        """What decides the prompt's text, and nothing else."""
        texts = {"preamble": self.preamble, "zero_shot": self.zero_shot, "few_shot": asdict(self.few_shot)}
        # a plain template keeps the hash it had before there were styles: old scores still name it
        return texts if self.style == "plain" else {**texts, "style": self.style, "system": self.system}

    @property
    def sha256(self) -> str:
        """Hash of `texts()`; stored with every score and adapter."""
        canonical = json.dumps(self.texts(), ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def record(self) -> dict[str, Any]:
        """For the run's records: texts, origin and hash."""
        return {**self.texts(), "language": self.language, "source": self.source, "sha256": self.sha256}


def template_from_mapping(value: Mapping[str, Any], *, name: str, where: str) -> Template:
    """Build and check a template.

    Args:
        value: `zero_shot` (needed, with `{instruction}`), `few_shot` (`head`, `demo`, `tail`), `preamble`, `style`
            (`plain`, `chat` or `multiturn`), `system`, `language`, `source`, `description`, `name`. Without `few_shot`,
            a demonstration is the zero-shot text, a space, its output and a blank line; in style `multiturn` it is
            always turns.
        name: used when the mapping has no `name` of its own.
        where: file or key for messages.

    Raises:
        TemplateError: a key or field is unknown or missing, a text is not a string, or keys don't go together.
    """
    _refuse_unknown(value, _KEYS, where)
    zero_shot = value.get("zero_shot")
    if zero_shot is None:
        raise TemplateError("a template has no text", where=where, expected="a key `zero_shot` with {instruction}")
    _check_text("zero_shot", zero_shot, where)
    few_shot = value.get("few_shot") or {"head": "", "demo": f"{zero_shot} {{output}}\n\n", "tail": zero_shot}
    if not isinstance(few_shot, Mapping):
        raise TemplateError("`few_shot` is not a mapping", where=where, expected="keys `head`, `demo` and `tail`")
    _refuse_unknown(few_shot, {"head", "demo", "tail"}, f"{where}, few_shot")
    if missing := {"demo", "tail"} - set(few_shot):
        raise TemplateError("`few_shot` is incomplete", where=where, expected=f"the key `{min(missing)}`")
    pieces = {"zero_shot": zero_shot, "head": few_shot.get("head", ""), **{k: few_shot[k] for k in ("demo", "tail")}}
    for piece, text in {**pieces, "system": value.get("system", "")}.items():
        _check_fields(piece, text, where)
    plain = {key: value.get(key, "") for key in ("preamble", "language", "source", "description", "system")}
    for key, text in plain.items():
        _check_text(key, text, where)
    return Template(
        name=_short(value.get("name", name)).encode(errors="backslashreplace").decode(),
        zero_shot=zero_shot,
        few_shot=FewShotText(head=pieces["head"], demo=pieces["demo"], tail=pieces["tail"]),
        style=_style(value, where),
        **plain,
    )


def _style(value: Mapping[str, Any], where: str) -> Style:
    style: Any = value.get("style", "plain")
    if style not in get_args(Style):
        near = difflib.get_close_matches(_short(style), get_args(Style), n=1)
        raise TemplateError(
            "a template's style is unknown",
            where=f"{where}, style",
            found=repr(_short(style)),
            expected=", ".join(get_args(Style)),
            fix=f"did you mean `{near[0]}`?" if near else None,
        )
    if style == "plain" and value.get("system"):
        raise TemplateError(
            "a plain template has no system turn",
            where=f"{where}, system",
            fix="set `style: chat` or `style: multiturn`, or put the text into `preamble`",
        )
    if style == "multiturn" and value.get("few_shot"):
        raise TemplateError(
            "in style `multiturn` demonstrations are turns, so `few_shot` would be without effect",
            where=f"{where}, few_shot",
            fix="leave `few_shot` out, or set `style: chat` to have all of it in one turn",
        )
    return style  # type: ignore[no-any-return]


def _refuse_unknown(value: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in value:
        if key not in known:
            near = difflib.get_close_matches(_short(key), known, n=1)
            raise TemplateError(
                f"unknown key `{_short(key)}` in a template",
                where=where,
                expected=", ".join(sorted(known)),
                fix=f"did you mean `{near[0]}`?" if near else None,
            )


def _short(value: Any) -> str:
    """A value for a message: aliases of aliases in a YAML file can stand for more text than memory holds."""
    return value[:100] if isinstance(value, str) else reprlib.repr(value)


def _check_text(key: str, text: Any, where: str) -> None:
    if not isinstance(text, str):
        raise TemplateError(f"`{key}` is not text", where=where, found=_short(text))
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TemplateError(
            f"`{key}` holds half a character",
            where=where,
            found=f"the lone surrogate \\u{ord(text[error.start]):04x} at character {error.start + 1}",
            fix="write the whole character there: no tokenizer can read this",
        ) from error


def _check_fields(piece: str, text: Any, where: str) -> None:
    _check_text(piece, text, where)
    fields = {name for _, name in pieces_of(text) if name}
    if unknown := sorted(fields - _ALLOWED[piece]):
        near = difflib.get_close_matches(unknown[0], _ALLOWED[piece], n=1)
        raise TemplateError(
            f"`{piece}` names an unknown field",
            where=where,
            found=f"{{{unknown[0]}}}",
            expected=", ".join(f"{{{name}}}" for name in sorted(_ALLOWED[piece])),
            fix=(f"did you mean {{{near[0]}}}? " if near else "")
            + f"a literal {{{unknown[0]}}} is written {{{{{unknown[0]}}}}}",
        )
    if missing := sorted(_NEEDED.get(piece, set()) - fields):
        raise TemplateError(
            f"`{piece}` has no {{{missing[0]}}}",
            where=where,
            found=text if len(text) <= 80 else text[:77] + "…",
            fix=f"put {{{missing[0]}}} where it belongs",
        )
