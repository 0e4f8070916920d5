"""From a row to a prompt to token ids. No torch here."""

from triptych.prompts.demonstrations import Draw, draw_demos
from triptych.prompts.named import catalogue, find_template, template_from_text
from triptych.prompts.render import MAX_TOKENS, Rendered, Tokenizes, render
from triptych.prompts.template import FewShotText, Template, template_from_mapping

__all__ = [
    "MAX_TOKENS",
    "Draw",
    "FewShotText",
    "Rendered",
    "Template",
    "Tokenizes",
    "catalogue",
    "draw_demos",
    "find_template",
    "render",
    "template_from_mapping",
    "template_from_text",
]
