"""From a row to a prompt to token ids, and which demonstrations stand in it. No torch here."""

from triptych.prompts.demonstrations import draw_demos
from triptych.prompts.named import catalogue, find_template, show_on_sample, template_from_text
from triptych.prompts.options import Answers, RenderedOptions, render_options
from triptych.prompts.ranking import Vectors
from triptych.prompts.render import (
    Chats,
    Drop,
    Rendered,
    RenderedPrompt,
    Tokenizes,
    render,
    render_prompt,
)
from triptych.prompts.selection import Chosen, Selector
from triptych.prompts.template import FewShotText, Style, Template, pieces_of, template_from_mapping

__all__ = [
    "Answers",
    "Chats",
    "Chosen",
    "Drop",
    "FewShotText",
    "Rendered",
    "RenderedOptions",
    "RenderedPrompt",
    "Selector",
    "Style",
    "Template",
    "Tokenizes",
    "Vectors",
    "catalogue",
    "draw_demos",
    "find_template",
    "pieces_of",
    "render",
    "render_options",
    "render_prompt",
    "show_on_sample",
    "template_from_mapping",
    "template_from_text",
]
