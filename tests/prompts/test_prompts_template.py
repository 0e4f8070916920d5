"""The study's prompts to the character, and templates of one's own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.data import Row
from triptych.errors import TemplateError
from triptych.prompts import FewShotText, Template, catalogue, find_template, template_from_mapping, template_from_text

# Copied from the assignment, not built from the catalogue.
DEFAULT = (
    "你是人工智慧助理，以下是用戶和人工智能助理之間的對話。你要對用戶的問題提供有用、安全、詳細和禮貌的回答。"
    "USER: 翻譯成文言文：天亮了。 ASSISTANT:"
)
EMOTIONAL = (
    "你是人工智慧助理，以下是用戶和人工智能助理之間的對話。你要對用戶的問題提供有用、安全、詳細和禮貌的回答，"
    "這對我來說很重要，會影響到我的一生，希望你可以好好達成此項任務。USER: 翻譯成文言文：天亮了。 ASSISTANT:"
)
FEW_SHOT = (
    "你是人工智慧助理，以下是用戶和人工智能助理之間的對話。你要對用戶的問題提供有用、安全、詳細和禮貌的回答。"
    "我會給你2個例子，當作白話文轉換成文言文的範例。請你按照我給的範例，進行接下來的任務。"
    "第1個例子，USER: 一一 ASSISTANT: 甲甲第2個例子，USER: 二二 ASSISTANT: 乙乙"
    "。接下來要請你開始你的任務：USER: 翻譯成文言文：天亮了。, ASSISTANT:"
)
INSTRUCTION = "翻譯成文言文：天亮了。"
DEMOS = (Row("d1", "一一", "甲甲"), Row("d2", "二二", "乙乙"))
MINIMAL = {"zero_shot": "Q: {instruction} A:"}


def test_default_prompt() -> None:
    assert find_template("default").prompt(INSTRUCTION) == DEFAULT


def test_emotional_prompt() -> None:
    assert find_template("emotional").prompt(INSTRUCTION) == EMOTIONAL


def test_few_shot_prompt() -> None:
    assert find_template("default").prompt(INSTRUCTION, DEMOS) == FEW_SHOT


def test_emotional_few_shot_prompt_differs_in_its_preamble_only() -> None:
    cut = FEW_SHOT.index("我會給你")
    start = EMOTIONAL[: EMOTIONAL.index("USER:")]
    assert find_template("emotional").prompt(INSTRUCTION, DEMOS) == start + FEW_SHOT[cut:]


def test_ten_demos_are_numbered_in_arabic_numerals() -> None:
    text = find_template("default").prompt(INSTRUCTION, [Row(str(i), "問", "答") for i in range(10)])
    assert "我會給你10個例子" in text
    assert "答第10個例子，USER: 問 ASSISTANT: 答。接下來" in text
    assert "第11個" not in text


def test_catalogue_holds_the_study_prompts() -> None:
    assert {"default", "emotional"} <= set(catalogue())
    assert all(template.name == name for name, template in catalogue().items())


def test_catalogue_is_still_a_function_after_a_look_into_its_folder() -> None:
    code = "import triptych.prompts as p; p.find_template('default'); assert 'default' in p.catalogue()"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_hash_is_what_it_was() -> None:
    # Stored with every score: if these change, old runs no longer match new ones.
    assert find_template("default").sha256 == "290773cec5fa0651128856cce9ed1f14bae11be1a59dd5f230cbf567c9fdcebb"
    assert find_template("emotional").sha256 == "3ee4682bb48eec3bcb105ce0b0fc74dcc5971a83605705547dc97966a8f3b99d"


def test_hash_depends_on_texts_only() -> None:
    one = template_from_mapping({**MINIMAL, "language": "en", "source": "here"}, name="a", where="test")
    two = template_from_mapping({**MINIMAL, "language": "fr", "source": "there"}, name="b", where="elsewhere")
    assert one.sha256 == two.sha256


@pytest.mark.parametrize(
    "change",
    [
        {"zero_shot": "Q: {instruction} A: "},
        {"preamble": "x"},
        {"few_shot": FewShotText("h", "{instruction}{output}", "{instruction}")},
        {"few_shot": FewShotText("", "{instruction}{output}!", "{instruction}")},
        {"few_shot": FewShotText("", "{instruction}{output}", "{instruction}!")},
    ],
)
def test_hash_changes_with_any_text(change: dict[str, object]) -> None:
    base = Template("t", "Q: {instruction} A:", FewShotText("", "{instruction}{output}", "{instruction}"))
    assert replace(base, **change).sha256 != base.sha256  # type: ignore[arg-type]


def test_record_holds_texts_and_hash() -> None:
    template = find_template("default")
    record = template.record()
    assert record["zero_shot"] == "{preamble}USER: {instruction} ASSISTANT:"
    assert record["few_shot"]["demo"] == "第{i}個例子，USER: {instruction} ASSISTANT: {output}"
    assert record["sha256"] == template.sha256


def test_without_few_shot_a_demo_is_the_zero_shot_text_and_its_output() -> None:
    template = template_from_mapping(MINIMAL, name="t", where="test")
    assert template.prompt("c", [Row("1", "a", "x"), Row("2", "b", "y")]) == "Q: a A: x\n\nQ: b A: y\n\nQ: c A:"


NASTY = [
    "{instruction}",
    "{output} {k} {i} {preamble}",
    "{{ instruction }}{% for x in y %}{# no #}",
    "{{instruction}}",
    r"\1 \g<0> \n $1 %s %(k)s",
    "{",
    "}{",
    "{0}",
    "{unknown}",
    "{instruction!r:>10}",
]


@pytest.mark.parametrize("text", NASTY)
def test_data_is_never_interpreted(text: str) -> None:
    template = find_template("default")
    assert template.prompt(text) == DEFAULT.replace(INSTRUCTION, text)
    shown = template.prompt(text, [Row("1", text, text)])
    assert f"第1個例子，USER: {text} ASSISTANT: {text}。接下來要請你開始你的任務：USER: {text}, ASSISTANT:" in shown


@given(st.text(), st.text(), st.text())
def test_any_text_stands_unchanged_where_it_belongs(instruction: str, shown: str, output: str) -> None:
    mapping = {
        "zero_shot": "<{instruction}>",
        "few_shot": {"demo": "[{instruction}|{output}]", "tail": "<{instruction}>"},
    }
    template = template_from_mapping(mapping, name="t", where="test")
    assert template.prompt(instruction) == f"<{instruction}>"
    assert template.prompt(instruction, [Row("1", shown, output)]) == f"[{shown}|{output}]<{instruction}>"


def test_braces_that_are_no_field_stay() -> None:
    template = template_from_mapping({"zero_shot": '{"q": "{instruction}", "n": {}}'}, name="t", where="test")
    assert template.prompt("hi") == '{"q": "hi", "n": {}}'


@pytest.mark.parametrize(
    ("mapping", "parts"),
    [
        ({"zero_shots": "x {instruction}"}, ["unknown key `zero_shots`", "did you mean `zero_shot`?"]),
        ({**MINIMAL, "preambel": ""}, ["unknown key `preambel`", "did you mean `preamble`?"]),
        (
            {**MINIMAL, "few_shot": {"demos": "", "tail": ""}},
            ["unknown key `demos`", "few_shot", "did you mean `demo`?"],
        ),
        (
            {"zero_shot": "x {instruction} {instrution}"},
            ["unknown field", "{instrution}", "did you mean {instruction}?"],
        ),
        ({"zero_shot": "{instruction} {output}"}, ["`zero_shot` names an unknown field", "{output}"]),
        ({"zero_shot": "USER: ASSISTANT:"}, ["`zero_shot` has no {instruction}", "USER: ASSISTANT:"]),
        ({}, ["a template has no text", "zero_shot"]),
        ({"preamble": "x"}, ["a template has no text", "zero_shot"]),
        ({"zero_shot": 3}, ["`zero_shot` is not text", "3"]),
        ({"zero_shot": ["{instruction}"]}, ["`zero_shot` is not text"]),
        ({**MINIMAL, "preamble": 3}, ["`preamble` is not text", "3"]),
        ({**MINIMAL, "few_shot": "x"}, ["`few_shot` is not a mapping", "`head`, `demo` and `tail`"]),
        ({**MINIMAL, "few_shot": {"demo": "{instruction}{output}"}}, ["incomplete", "`tail`"]),
        ({**MINIMAL, "few_shot": {"tail": "{instruction}"}}, ["incomplete", "`demo`"]),
        ({**MINIMAL, "few_shot": {"demo": "{instruction}", "tail": "{instruction}"}}, ["`demo` has no {output}"]),
        ({**MINIMAL, "few_shot": {"demo": "{instruction}{output}", "tail": "x"}}, ["`tail` has no {instruction}"]),
        (
            {
                **MINIMAL,
                "few_shot": {"head": "{instruction}", "demo": "{instruction}{output}", "tail": "{instruction}"},
            },
            ["`head` names an unknown field"],
        ),
    ],
)
def test_mistakes_are_named(mapping: dict[str, object], parts: list[str]) -> None:
    with pytest.raises(TemplateError) as caught:
        template_from_mapping(mapping, name="t", where="prompts.yaml, prompts.t")
    message = str(caught.value)
    assert "prompts.yaml, prompts.t" in message
    for part in parts:
        assert part in message
    assert caught.value.exit_code == 2


def test_unknown_name_suggests_the_nearest_and_lists_all() -> None:
    with pytest.raises(TemplateError, match="did you mean `emotional`") as caught:
        find_template("emotinal")
    assert "default, emotional" in str(caught.value)


def test_own_templates_come_first() -> None:
    mine = template_from_mapping(MINIMAL, name="default", where="test")
    assert find_template("default", {"default": mine}) is mine
    assert find_template("emotional", {"default": mine}).name == "emotional"


def test_literal_text() -> None:
    template = template_from_text("Q: {instruction}\nA:")
    assert template.name == "custom"
    assert template.prompt("x") == "Q: x\nA:"
    assert template_from_text("{instruction}", name="mine").name == "mine"


def test_literal_text_without_instruction() -> None:
    with pytest.raises(TemplateError, match=r"`zero_shot` has no \{instruction\}"):
        template_from_text("Q:\nA:")


def test_yaml_file(tmp_path: Path) -> None:
    (tmp_path / "polite.yaml").write_text("preamble: 請。\nzero_shot: '{preamble}{instruction}='\n", encoding="utf-8")
    template = template_from_text(str(tmp_path / "polite.yaml"))
    assert template.name == "polite"
    assert template.prompt("x") == "請。x="
    assert template_from_text(str(tmp_path / "polite.yaml"), name="other").name == "other"


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_txt_file_is_the_text_itself(tmp_path: Path, mark: bytes) -> None:
    (tmp_path / "plain.txt").write_bytes(mark + "問：{instruction}\n答：\n".encode())
    template = template_from_text(str(tmp_path / "plain.txt"))
    assert template.name == "plain"
    assert template.prompt("x") == "問：x\n答："  # the editor's last line break (and Windows' mark) is not the prompt's


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("a.yaml", b"zero_shot: [", "not YAML"),
        ("a.yaml", b"- 1\n- 2\n", "not a mapping"),
        ("a.yaml", b"", "not a mapping"),
        ("a.yaml", b"zero_shot: hello\n", "has no {instruction}"),
        ("a.txt", b"\xff\xfe\x00", "neither a readable file"),
        ("a.txt", b"", "has no {instruction}"),
    ],
)
def test_broken_files(tmp_path: Path, name: str, content: bytes, part: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TemplateError) as caught:
        template_from_text(str(tmp_path / name))
    assert part in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize("text", ["nowhere.yaml", "nowhere.txt", "just words", ""])
def test_missing_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TemplateError, match="neither a readable file nor a text with"):
        template_from_text(text)


def test_prompts_leave_torch_unloaded() -> None:
    code = "import sys, triptych.prompts; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_double_braces_are_literal_ones() -> None:
    text = 'Write {{name}} and {{instruction}} for {instruction}; {"a": 1} stays'
    made = template_from_mapping({"zero_shot": text}, name="t", where="here")
    assert made.prompt("x {{y}} {k}") == 'Write {name} and {instruction} for x {{y}} {k}; {"a": 1} stays'
    chat = template_from_mapping(
        {"zero_shot": "{instruction}", "style": "chat", "system": "{{a}}"}, name="t", where="h"
    )
    assert chat.turns("x")[0] == ("system", "{a}")
    with pytest.raises(TemplateError, match=r"has no \{instruction\}"):
        template_from_mapping({"zero_shot": "{{instruction}}"}, name="t", where="here")
    with pytest.raises(TemplateError) as caught:
        template_from_mapping({"zero_shot": "{city} {instruction}"}, name="t", where="here")
    assert "{{city}}" in (caught.value.fix or "")


def test_a_template_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "t.txt").write_text("say {instruction}\n")
    assert template_from_text("~/t.txt").zero_shot == "say {instruction}"


def test_a_template_file_that_is_too_large_or_explodes(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text("zero_shot: |\n" + " x\n" * 400_000)
    with pytest.raises(TemplateError) as caught:
        template_from_text(str(path))
    assert "250,000" in (caught.value.found or "")
    aliases = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    path.write_text(f"a0: &a0 [x]\n{aliases}")
    with pytest.raises(TemplateError, match="unknown key"):
        template_from_text(str(path))
    path.write_text("zero_shot:\n  a0: &a0 [x]\n" + "".join(f"  {line}\n" for line in aliases.splitlines()))
    with pytest.raises(TemplateError, match="is not text"):
        template_from_text(str(path))
    path.write_text("zero_shot: 2024-99-99\n")
    with pytest.raises(TemplateError):
        template_from_text(str(path))


@pytest.mark.parametrize("key", ["zero_shot", "preamble", "source"])
def test_half_a_character(key: str) -> None:
    with pytest.raises(TemplateError, match="half a character") as caught:
        template_from_mapping({"zero_shot": "{instruction}", key: "{instruction}\ud800"}, name="t", where="here")
    assert "\\ud800" in (caught.value.found or "")
