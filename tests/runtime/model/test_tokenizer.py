"""Tokenizers: equal to transformers on a varied corpus, and to the rules written out in plain Python."""

# ruff: noqa: RUF001 the corpus is of many scripts on purpose

from __future__ import annotations

import itertools
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import regex
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from attest.refusal import Malformed, Refused, Unsupported
from runtime.model.gguf_file import parse_gguf
from runtime.model.loaded import OpenModel, open_model
from runtime.model.tokenizer import IncrementalDecoder, Tokenizer
from runtime.model.tokenizer_sources import gguf_tokenizer
from tests.simulators.tiny_models import TEMPLATE, save_folder, tiny_config, write_gguf

CORPUS = [
    "",
    " ",
    "Hello, world!",
    "  two spaces, then\ttabs\t\tand\n\nnewlines\r\n",
    "trailing spaces   ",
    "It's they're we've I'm you'll he'd DON'T",
    "1234567890 12 345.678e-9 0x1F ½ ² ٣ 二〇二四",
    "  12 and   345 after spaces",
    "naïve café Ångström ﬁ é é",
    "Привет, мир! Γειά σου Κόσμε",
    "日本語のテキスト。中文文本,한국어 텍스트",
    "مرحبا بالعالم שלום עולם",
    "emoji 😀👍🏽👨‍👩‍👧‍👦🇫🇷 done",
    "def f(x):\n    return {'a': x ** 2}  # comment\n",
    '<html><body class="x">&amp;</body></html>',
    "\u200b\ufeff\u00a0\u2003odd\u2028spaces",
    "\x00\x01\x7f control",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "supercalifragilisticexpialidocious",
    "<|im_start|>user\nhi<|im_end|>\n<|endoftext|>x<|im_end|",
    "<repo_name>a<file_sep>b",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𓀀 \U0010ffff",
]
CONVERSATIONS: list[list[dict[str, str]]] = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why is 7 × 8 = 56?"}],
    [
        {"role": "user", "content": "first\nline"},
        {"role": "assistant", "content": "  spaced  "},
        {"role": "user", "content": "<|im_end|> inside"},
    ],
]
_GPT2_SPLIT = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


@pytest.fixture(scope="module")
def reference(smollm2_file: Path) -> Any:
    """The library's own conversion of the file, with the digit rule that ``pre = smollm`` stands for.

    Its converter leaves ``tokenizer.ggml.pre`` unread; the published tokenizer cuts digits apart first.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            smollm2_file.parent, gguf_file=smollm2_file.name
        )
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), tokenizer.backend_tokenizer.pre_tokenizer]
    )
    return tokenizer


@pytest.mark.model
@pytest.mark.parametrize("text", CORPUS)
def test_equal_to_transformers(smollm2: OpenModel, reference: Any, text: str) -> None:
    ids = smollm2.tokenizer.encode(text)
    assert ids == reference(text).input_ids
    assert smollm2.tokenizer.decode(ids, skip_special_tokens=False) == reference.decode(ids)
    assert smollm2.tokenizer.decode(ids) == reference.decode(ids, skip_special_tokens=True)


@pytest.mark.model
@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_equal_to_transformers_on_any_text(smollm2: OpenModel, reference: Any, text: str) -> None:
    assert smollm2.tokenizer.encode(text) == reference(text).input_ids


@pytest.mark.model
@pytest.mark.parametrize("messages", CONVERSATIONS)
def test_conversations_equal_transformers(
    smollm2: OpenModel, reference: Any, messages: list[dict[str, str]]
) -> None:
    text = reference.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert smollm2.tokenizer.render_chat(messages) == text
    expected = reference(text, add_special_tokens=False).input_ids
    assert smollm2.tokenizer.encode_chat(messages) == expected
    without = reference.apply_chat_template(messages, tokenize=False, add_generation_prompt=False)
    assert smollm2.tokenizer.render_chat(messages, add_generation_prompt=False) == without


@pytest.fixture(scope="module")
def plain_bpe(smollm2_file: Path) -> Any:
    """Byte-level BPE in plain Python, from the file's tokens and merges."""
    file = parse_gguf(smollm2_file.read_bytes())
    ids = {token: index for index, token in enumerate(file.strings("tokenizer.ggml.tokens"))}
    ranks = {
        tuple(merge.split(" ")): rank for rank, merge in enumerate(file.strings("tokenizer.ggml.merges"))
    }
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {b: chr(256 + n) for n, b in enumerate(others)}

    def encode(text: str) -> list[int]:
        result: list[int] = []
        for piece in regex.split(r"(\p{Nd}|\p{Nl}|\p{No})", text):
            for word in _GPT2_SPLIT.findall(piece):
                parts = [letters[byte] for byte in word.encode()]
                while pairs := [pair for pair in itertools.pairwise(parts) if pair in ranks]:
                    best = min(pairs, key=ranks.__getitem__)
                    at = next(i for i in range(len(parts)) if tuple(parts[i : i + 2]) == best)
                    parts[at : at + 2] = ["".join(best)]
                result += [ids[part] for part in parts]
        return result

    return encode


@pytest.mark.model
@pytest.mark.parametrize("text", [text for text in CORPUS if "<" not in text])
def test_equal_to_the_rules_in_plain_python(smollm2: OpenModel, plain_bpe: Any, text: str) -> None:
    """An oracle that shares no code with the tokenizers library."""
    assert smollm2.tokenizer.encode(text) == plain_bpe(text)


@pytest.mark.model
def test_the_embedded_model_ends_where_it_should(smollm2: OpenModel) -> None:
    ends = {
        smollm2.tokenizer.decode([token], skip_special_tokens=False) for token in smollm2.tokenizer.eos_ids
    }
    assert ends == {"<|im_end|>", "<|endoftext|>"}


@pytest.mark.parametrize("text", CORPUS)
def test_a_folder_tokenizer_equals_transformers(tiny_folder: tuple[OpenModel, Any], text: str) -> None:
    loaded, reference = tiny_folder
    assert loaded.tokenizer.encode(text) == reference(text).input_ids
    ids = loaded.tokenizer.encode(text)
    assert loaded.tokenizer.decode(ids) == reference.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("messages", CONVERSATIONS)
def test_a_folder_template_equals_transformers(
    tiny_folder: tuple[OpenModel, Any], messages: list[dict[str, str]]
) -> None:
    loaded, reference = tiny_folder
    text = reference.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert loaded.tokenizer.render_chat(messages) == text


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[OpenModel, Any]:
    folder = tmp_path_factory.mktemp("folder")
    save_folder(folder, tiny_config("llama"))
    return open_model(folder), transformers.AutoTokenizer.from_pretrained(folder)


def test_eos_of_a_folder_comes_from_all_who_state_it(tmp_path: Path) -> None:
    """Instruct models state the turn's end in generation_config.json only."""
    save_folder(tmp_path, tiny_config("llama", eos_token_id=0))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 6]}))
    assert open_model(tmp_path).tokenizer.eos_ids == {0, 2, 5, 6}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path)
    return gguf_tokenizer(parse_gguf(path.read_bytes()), 300)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 299), max_size=60), st.booleans())
def test_pieces_joined_are_the_whole(tiny: Tokenizer, ids: list[int], skip: bool) -> None:
    """Any tokens, so also bytes that are no UTF-8."""
    decoder = IncrementalDecoder(tiny, skip_special_tokens=skip)
    pieces = [decoder.feed(token) for token in ids]
    assert "".join([*pieces, decoder.finish()]) == tiny.decode(ids, skip_special_tokens=skip)


@given(st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_no_piece_has_half_a_character(tiny: Tokenizer, text: str) -> None:
    decoder = IncrementalDecoder(tiny)
    pieces = [decoder.feed(token) for token in tiny.encode(text.replace("\ufffd", ""))]
    assert all("\ufffd" not in piece for piece in pieces)
    assert decoder.finish() == ""


def test_invalid_bytes_are_not_held_for_ever(tiny: Tokenizer) -> None:
    """1000 continuation bytes: the memory and work per token stay bounded, and nothing is lost."""
    lone = tiny.backend.token_to_id(chr(256 + 34))  # how byte-level BPE spells byte 0x80
    assert tiny.decode([lone]) == "\ufffd"
    decoder = IncrementalDecoder(tiny)
    pieces = [decoder.feed(lone) for _ in range(1000)]
    assert sum(len(piece) for piece in pieces) > 900
    assert "".join(pieces) + decoder.finish() == "\ufffd" * 1000


def test_a_start_token_is_added_where_the_file_says_so(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", changes={"tokenizer.ggml.add_bos_token": True})
    tokenizer = gguf_tokenizer(parse_gguf((tmp_path / "m.gguf").read_bytes()), 300)
    assert tokenizer.encode("box")[0] == 1
    assert 1 not in tokenizer.encode("box", add_special_tokens=False)


@pytest.mark.parametrize(
    ("changes", "error", "code"),
    [
        ({"tokenizer.ggml.model": "llama"}, Unsupported, "tokenizer-model"),
        ({"tokenizer.ggml.pre": "unheard-of"}, Unsupported, "tokenizer-pre"),
        ({"tokenizer.ggml.token_type": [1, 2]}, Malformed, "tokenizer-vocabulary"),
        ({"tokenizer.ggml.tokens": ["a"] * 300}, Malformed, "tokenizer-vocabulary"),
        ({"tokenizer.ggml.eos_token_id": 300}, Malformed, "tokenizer-vocabulary"),
        ({"tokenizer.ggml.merges": ["nowhere tofind"]}, Malformed, "tokenizer-merges"),
        ({"tokenizer.ggml.merges": ["onlyone"]}, Malformed, "tokenizer-merges"),
        ({"tokenizer.ggml.merges": ["a b c"]}, Malformed, "tokenizer-merges"),
    ],
)
def test_a_tokenizer_that_contradicts_itself_is_refused(
    tmp_path: Path, changes: dict[str, Any], error: type[Refused], code: str
) -> None:
    write_gguf(tmp_path / "m.gguf", changes=changes)
    file = parse_gguf((tmp_path / "m.gguf").read_bytes())
    with pytest.raises(error) as refusal:
        gguf_tokenizer(file, 300)
    assert refusal.value.code == code


def test_more_tokens_than_rows_are_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf")
    with pytest.raises(Malformed) as refusal:
        gguf_tokenizer(parse_gguf((tmp_path / "m.gguf").read_bytes()), 299)
    assert refusal.value.code == "tokenizer-vocabulary"


@pytest.mark.parametrize("pre", ["qwen2", "llama-bpe"])
def test_other_families_cut_as_their_published_patterns_do(tmp_path: Path, pre: str) -> None:
    """Digits: one by one for Qwen2, up to three for Llama 3; both keep a newline with its space."""
    write_gguf(tmp_path / "m.gguf", changes={"tokenizer.ggml.pre": pre})
    tokenizer = gguf_tokenizer(parse_gguf((tmp_path / "m.gguf").read_bytes()), 300)
    pieces = [text for text, _ in tokenizer.backend.pre_tokenizer.pre_tokenize_str("x 12345\n y")]
    digits = ["1", "2", "3", "4", "5"] if pre == "qwen2" else ["123", "45"]
    assert pieces == ["x", "Ġ", *digits, "Ċ", "Ġy"]


def test_a_model_without_a_template_takes_no_conversation(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", skip=("tokenizer.chat_template",))
    tokenizer = gguf_tokenizer(parse_gguf((tmp_path / "m.gguf").read_bytes()), 300)
    with pytest.raises(Refused) as refusal:
        tokenizer.encode_chat([{"role": "user", "content": "hi"}])
    assert refusal.value.code == "chat-template-missing"


def test_repr_holds_no_text(tiny: Tokenizer) -> None:
    decoder = IncrementalDecoder(tiny)
    decoder.feed(5)
    assert repr(tiny) == "Tokenizer(300 tokens)"
    assert repr(decoder) == "IncrementalDecoder(0 pending)"
    assert TEMPLATE not in repr(tiny)
