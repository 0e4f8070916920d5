"""A chat template run with bounds on its steps, its time and the size of what it makes.

A template is a program that came with a model: it may loop without end, or double a text forty times. It is compiled
from the same environment that transformers uses, with three changes: every pass of a loop and every call of a macro is
counted; operators, methods and filters that can make a large value from small ones look at its size first; and so does
every place where texts are joined. What a template within the bounds writes is unchanged.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

_LARGEST = 10_000_000
"""Characters of a text, elements of a list."""
_LONGEST_TEMPLATE = 1_000_000
_MOST_STEPS = 2_000_000
_SECONDS = 5.0
_MOST_MADE = 100_000_000
"""The same, of all that is made for one conversation."""
_LARGEST_NUMBER = 1_000_000
"""Given to a method or a filter: a width, an indentation, a number of parts."""
_BITS = 4096
"""Of a whole number."""
_WIDE = re.compile(r"%[-+ #0]*\d*\.?(\*|\d{7})|%[-+ #0]*\d{7}|\{[^{}]*:[^{}]*(\d{7}|\{)")
"""In a format string: a field of a million characters or more, or one whose width is an argument."""


class OutOfBoundsError(ValueError):
    """A template does more than any chat template needs."""


class BoundedTemplate:
    """A compiled chat template.

    Raises:
        OutOfBoundsError: the text is longer than any template.
        jinja2.TemplateError: it isn't a template.
    """

    def __init__(self, text: str) -> None:
        from transformers.utils.chat_template_utils import _compile_jinja_template

        if len(text) > _LONGEST_TEMPLATE:
            raise OutOfBoundsError(f"the template has {len(text):,} characters; at most {_LONGEST_TEMPLATE:,} are read")
        self._budget = _Budget()
        environment = _bounded(_compile_jinja_template("").environment, self._budget)
        code = environment.compile(_Counted().visit(environment.parse(text)))
        self._template = environment.template_class.from_code(environment, code, environment.make_globals(None), None)

    def render(self, values: Mapping[str, Any]) -> str:
        """What the template writes.

        Raises:
            OutOfBoundsError: it takes too many steps or too long, or makes something too large.
        """
        self._budget.begin()
        text: str = self._template.render(**values)
        return text


def _bounded(plain: Any, budget: _Budget) -> Any:
    """A copy of the environment in which everything that may take long or grow asks the budget first."""
    environment = plain.overlay()
    operate, call = environment.call_binop, environment.call

    def bounded_operator(context: Any, operator: str, left: Any, right: Any) -> Any:
        budget.check_operator(operator, left, right)
        return operate(context, operator, left, right)

    def bounded_call(context: Any, called: Any, *args: Any, **named: Any) -> Any:
        budget.step()
        # the sandbox puts a function of its own around `format`
        owner = getattr(called, "__self__", getattr(getattr(called, "__wrapped__", None), "__self__", None))
        if isinstance(owner, str):
            budget.check_arguments(getattr(called, "__name__", ""), owner, args, named)
        return call(context, called, *args, **named)

    environment.filters = {name: _bounded_filter(name, made, budget) for name, made in plain.filters.items()}
    environment.intercepted_binops = frozenset(("*", "**", "+", "%"))
    environment.call_binop, environment.call = bounded_operator, bounded_call
    environment.concat = budget.join
    environment.bounded_step, environment.bounded_join = budget.step, lambda *parts: budget.join(map(str, parts))
    return environment


def _bounded_filter(name: str, made: Any, budget: _Budget) -> Any:
    first = 1 if hasattr(made, "jinja_pass_arg") else 0  # then the environment or the context comes before

    def bounded(*args: Any, **named: Any) -> Any:
        budget.step()
        budget.check_arguments(name, args[first], args[first + 1 :], named)
        return made(*args, **named)

    for attribute in ("jinja_pass_arg", "jinja_async_variant"):
        if hasattr(made, attribute):
            setattr(bounded, attribute, getattr(made, attribute))
    return bounded


class _Counted(NodeTransformer):
    """Counts every pass of a loop and every call of a macro; texts are joined by a function that checks their size."""

    def visit_Concat(self, node: Any) -> Any:  # noqa: N802 - jinja2's name
        self.generic_visit(node)
        join = nodes.EnvironmentAttribute("bounded_join")
        return nodes.Call(join, node.nodes, [], None, None).set_lineno(node.lineno).set_environment(node.environment)

    def _counted(self, node: Any) -> Any:
        self.generic_visit(node)
        step = nodes.Call(nodes.EnvironmentAttribute("bounded_step"), [], [], None, None)
        first = nodes.ExprStmt(step).set_lineno(node.lineno).set_environment(node.environment)
        node.body = [first, *node.body]
        return node

    visit_For = visit_Macro = visit_CallBlock = _counted  # noqa: N815


class _Budget:
    """What one conversation may take."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self._steps, self._made, self._end = 0, 0, time.monotonic() + _SECONDS

    def step(self) -> str:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise OutOfBoundsError(f"the template takes more than {_MOST_STEPS:,} steps for one conversation")
        if self._steps % 64 == 0 and time.monotonic() > self._end:
            raise OutOfBoundsError(f"the template takes more than {_SECONDS:g} s for one conversation")
        return ""

    def join(self, parts: Iterable[str]) -> str:
        texts, size = [], 0
        for text in parts:
            texts.append(text)
            size += len(text)
            if size > _LARGEST:
                break
        self._take(size)
        return "".join(texts)

    def check_operator(self, operator: str, left: Any, right: Any) -> None:
        if operator == "+" and isinstance(left, str | list | tuple) and isinstance(right, str | list | tuple):
            self._take(len(left) + len(right))
        elif operator == "%" and isinstance(left, str):
            _check_format(left)
        elif operator == "*":
            for many, times in ((left, right), (right, left)):
                if isinstance(many, str | list | tuple) and isinstance(times, int):
                    self._take(len(many) * max(0, times))
            if isinstance(left, int) and isinstance(right, int):
                _check_bits(left.bit_length() + right.bit_length())
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            _check_bits(left.bit_length() * max(0, right))

    def check_arguments(self, name: str, value: Any, args: Sequence[Any], named: Mapping[str, Any]) -> None:
        """Of a method or a filter, with the value it is applied to."""
        values = [*args, *named.values()]
        if any(isinstance(number, int) and abs(number) > _LARGEST_NUMBER for number in values):
            raise OutOfBoundsError(f"the template gives `{name}` a number above {_LARGEST_NUMBER:,}")
        first = values[0] if values else ""
        if name == "join":
            between, elements = (value, first) if isinstance(value, str) else (str(first), value)
            if isinstance(elements, list | tuple):
                self._take(sum(len(part) + len(between) for part in elements if isinstance(part, str)))
        if not isinstance(value, str):
            return
        if name in ("format", "format_map"):
            _check_format(value)
        elif name == "replace" and len(values) > 1:
            times = value.count(str(first)) if first else len(value) + 1
            self._take(len(value) + times * len(str(values[1])))
        elif name in ("indent", "expandtabs", "wordwrap", "center", "ljust", "rjust", "zfill"):
            width = max((number for number in values if isinstance(number, int)), default=8)
            self._take(len(value) + (value.count("\n") + value.count("\t") + 1) * width)

    def _take(self, size: int) -> None:
        self._made += size
        if size > _LARGEST or self._made > _MOST_MADE:
            raise OutOfBoundsError(
                f"the template makes values of {max(size, self._made):,} characters or elements for one conversation; "
                f"at most {_LARGEST:,} in one and {_MOST_MADE:,} in all"
            )


def _check_format(text: str) -> None:
    if _WIDE.search(text):
        raise OutOfBoundsError("the template formats a field of a million characters or more, or of a variable width")


def _check_bits(bits: int) -> None:
    if bits > _BITS:
        raise OutOfBoundsError(f"the template computes a whole number of {bits:,} bits; at most {_BITS:,}")
