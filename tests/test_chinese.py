"""The Chinese of everything that is read: the lecture's own terms, full-width punctuation, lines that break well."""

import json
import re
from pathlib import Path

import pytest

from gradflow.figures.catalogue import texts, wrap

ROOT = Path(__file__).parents[1]
CHINESE = "[\u3400-\u9fff]"
BESIDE = rf"(?:(?!{CHINESE})[\w$→×±≈≥≤∂‖−])"
TERMS = {
    "隐状态": "隐藏状态",
    "隐层": "隐藏状态",
    "细胞": "单元",
    "裁剪": "截断",
    "剪裁": "截断",
    "正确率": "准确率",
    "胞元": "单元",
    "∘": "⊙",
    r"单元(饱和|死亡|活跃)|(饱和|死亡)单元": "神经元",
    r"复位门|重设门|忘记门": "重置门, 遗忘门",
    r"(?<!随机)种子": "随机种子",
    r"独热(?!向量)": "one-hot 向量",
    r"成批": "批量",
    "听得见": "顾得上",
    r"每一?格|各格": "子图",
}
"""What is not written, and what is written instead."""
PUNCTUATION = {
    rf"{CHINESE}\s*[,;:!?](?!\w*=)": "a half-width mark after Chinese",
    rf"[,;:!?]\s*{CHINESE}": "a half-width mark before Chinese",
    rf"{CHINESE}\(|\({CHINESE}|{CHINESE}\)": "a half-width bracket",
    rf"\"{CHINESE}|{CHINESE}\"": "straight quotation marks",
    r"[\d}] [%％]|％": "a per cent sign that is not %, or apart from its number",
    rf"{CHINESE} {CHINESE}": "a space between Chinese characters",
    r"[，。；：、（）“”] | [，。；：、）”]": "a space beside full-width punctuation",
    r"\.\.\.|。。": "dots that are no ellipsis",
    rf"{CHINESE}({BESIDE}|{{(?!status))|({BESIDE}|[%}}]){CHINESE}": "no space beside a letter, a number or a value",
}
CODE = re.compile(r"\$[^$]*\$|`[^`]*`|[A-Za-z_.\[\]]+\([^()]*\)|\w+=\S+")
"""Formulas, and what is typed."""


def of_yaml(path: Path) -> dict[str, str]:
    import yaml

    flat: dict[str, str] = {}
    for key, value in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        flat |= {f"{key}.{inner}": text for inner, text in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def of_markdown(text: str) -> dict[str, str]:
    text = re.sub(r"<!---?.*?-->|```.*?```", "", text, flags=re.S)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    parts = [part.strip() for line in text.splitlines() for part in line.split("|")]
    return {part[:20]: re.sub(r"\*+|^#+|!|\[|\]", "", part).strip() for part in parts if part}


def of_notebook(path: Path) -> dict[str, str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return of_markdown("\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"))


READ = {str(path.relative_to(ROOT)): of_yaml for path in sorted((ROOT / "gradflow").rglob("*zh.yaml"))}
READ |= {name: lambda path: of_markdown(path.read_text(encoding="utf-8")) for name in ("README.zh.md", "docs/zh.md")}
READ |= {str(path.relative_to(ROOT)): of_notebook for path in sorted((ROOT / "notebooks").glob("*.zh.ipynb"))}


@pytest.mark.parametrize("name", READ)
def test_terms_and_punctuation_are_those_of_a_chinese_lecture(name):
    wrong = []
    for key, text in READ[name](ROOT / name).items():
        bare = CODE.sub("X", str(text))
        wrong += [f"{key}: {text}: write {better}" for term, better in TERMS.items() if re.search(term, bare)]
        wrong += [f"{key}: {text}: {what}" for mark, what in PUNCTUATION.items() if re.search(mark, bare)]
    assert wrong == []


def test_every_name_that_figures_give_is_chinese_or_of_the_field():
    known = {"RNN", "LSTM", "GRU", "ReLU RNN", "sigmoid RNN", "chrono", "tanh"}
    for key, text in texts("zh").items():
        if key.startswith(("cell.", "source.", "init.", "section.", "axis.")):
            bare = re.sub(r"\$[^$]*\$|\{\w+\}", "", text)
            assert text in known or "$" in text or re.search(CHINESE, bare), key


@pytest.mark.parametrize("pair", ["0.57 倍", "$10^{-5}$ 倍", "20 步，"])
def test_a_number_stays_with_what_it_counts(pair):
    for columns in range(12, 30):
        assert any(pair in line for line in wrap(f"每步之后梯度只剩 {pair} 不会更多", columns).split("\n"))
