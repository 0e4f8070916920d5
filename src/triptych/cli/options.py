"""Options of commands, made from the calls in `triptych.api`: a parameter's name, type and default, and its line in
the call's docstring. So each is written once, and a command passes on what it was given.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, get_args

import typer

_TYPES: dict[Any, Any] = {
    Any: str | None,
    str | Path: str,
    str | Path | None: Path | None,
    Sequence[str]: list[str] | None,
}
"""A parameter's type in Python -> what the command line reads, where that is another."""
_LEAST = {
    **{"shots": 0, "dev_rows": 0, "max_tokens": 16},
    **dict.fromkeys(("threads", "limit", "max_new_tokens", "batch_rows"), 1),
}
_IN_PYTHON = re.compile(r": a file, a list of mappings, or a DataFrame|, a file\b")
_OF_NULL = re.compile(r"; null for [^.;]*")
_ARGUMENT = re.compile(r"^    (\w+): (.+(?:\n {8,}.+)*)", re.MULTILINE)

Config = Annotated[Path, typer.Argument(help="The experiment's YAML.", show_default=False)]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. tune.epochs=1.")
]
RunFolder = Annotated[Path | None, typer.Option(help="Folder of the run.  [default: runs/NAME]")]
AsJson = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]


def help_of(call: Callable[..., Any], name: str) -> str:
    """What the call's docstring says of a parameter, for the command's help."""
    return _sentence(_IN_PYTHON.sub("", _described(call)[name]))


def _described(call: Callable[..., Any]) -> dict[str, str]:
    return dict(_ARGUMENT.findall(inspect.getdoc(call) or ""))


def options_of(
    call: Callable[..., Any], *own: inspect.Parameter, required: Sequence[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the parameters of a call as its options.

    Args:
        call: the call.
        *own: the command's own options, and those that replace the call's.
        required: parameters without a default on the command line.
    """
    docs = _described(call)
    parameters = {
        name: _option(parameter, docs[name], required=name in required)
        for name, parameter in inspect.signature(call, eval_str=True).parameters.items()
        if name != "reporter" and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }

    def with_options(command: Callable[..., None]) -> Callable[..., None]:
        every = sorted(
            {**parameters, **{one.name: one for one in own}}.values(), key=lambda one: one.default is not one.empty
        )
        command.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in every}
        return command

    return with_options


def option(name: str, kind: Any, default: Any = ..., *flags: str, **facts: Any) -> inspect.Parameter:
    """An option of a command; without a default it has to be given."""
    default = inspect.Parameter.empty if default is ... else default
    if default in (inspect.Parameter.empty, None):
        facts.setdefault("show_default", False)
    if kind is bool and not default:
        flags = flags or (f"--{name.replace('_', '-')}",)
    annotation = Annotated[kind, typer.Option(*flags, **facts)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def section_options(section: Any, flags: Mapping[str, str], types: Mapping[str, Any]) -> list[inspect.Parameter]:
    """An option for each key of a section of the settings; what is left out is left to the section.

    Args:
        section: its class.
        flags: key -> the switch that sets it, where it is called otherwise.
        types: key -> what the command line reads, where that is another type.
    """
    return [
        option(
            name,
            (types.get(name) or field.annotation) | None,
            None,
            *([flags[name]] if name in flags else []),
            help=_OF_NULL.sub("", _sentence(field.description)),
        )
        for name, field in section.model_fields.items()
    ]


def _option(parameter: inspect.Parameter, text: str, *, required: bool) -> inspect.Parameter:
    kind, default = parameter.annotation, parameter.default
    if kind == Any and default is parameter.empty:
        kind = str
    kind = _TYPES.get(kind, kind) if not isinstance(kind, UnionType) or kind in _TYPES else kind
    if required:
        kind, default = get_args(kind)[0] if isinstance(kind, UnionType) else kind, parameter.empty
    least = {"min": _LEAST[parameter.name]} if parameter.name in _LEAST else {}
    default = None if default == () else default
    return option(parameter.name, kind, default, help=_sentence(_IN_PYTHON.sub("", text)), **least)


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text[:1].upper() + text[1:]
