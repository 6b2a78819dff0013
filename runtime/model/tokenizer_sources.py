"""Build the tokenizer from what the model brought: GGUF metadata, or a folder's ``tokenizer.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, processors

from attest.refusal import Malformed, Unsupported
from runtime.model.chat_template import ChatTemplate
from runtime.model.gguf_file import GgufFile
from runtime.model.safetensors_folder import ModelFolder, parse_json_object
from runtime.model.tokenizer import Tokenizer

_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4
_END_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<|endoftext|>", "<|end_of_text|>")
"""End-of-sequence tokens by name: a file states one, an instruct model may end with another."""

_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_LLAMA3 = _QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


def _byte_level(split: str | None = None, *, digits: bool = False) -> pre_tokenizers.PreTokenizer:
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)
    if digits:
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    if split is not None:
        return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(split), "isolated"), byte_level])
    return byte_level


def _pre_tokenizer(name: str) -> pre_tokenizers.PreTokenizer:
    """How text is cut before merging, by the name that ``tokenizer.ggml.pre`` gives it."""
    match name:
        case "gpt-2":
            return _byte_level()
        case "smollm":
            return _byte_level(digits=True)
        case "qwen2":
            return _byte_level(_QWEN2)
        case "llama-bpe" | "llama3":
            return _byte_level(_LLAMA3)
    raise Unsupported("tokenizer-pre", expected="gpt-2, smollm, qwen2, llama-bpe", got=name[:64])


def gguf_tokenizer(file: GgufFile, vocab_size: int) -> Tokenizer:
    """The tokenizer that the file's own metadata describes.

    Args:
        file: the parsed file.
        vocab_size: rows of the model's embedding; every id must be below it.

    Raises:
        Unsupported: ``tokenizer-model`` unless it is byte-level BPE, ``tokenizer-pre``.
        Malformed: ``gguf-key-missing``, ``gguf-key-type``, ``tokenizer-vocabulary``, ``tokenizer-merges``.
    """
    kind = file.string("tokenizer.ggml.model")
    if kind != "gpt2":
        raise Unsupported("tokenizer-model", expected="gpt2 (byte-level BPE)", got=kind[:64])
    tokens = file.strings("tokenizer.ggml.tokens")
    kinds = file.integers("tokenizer.ggml.token_type")
    if len(kinds) != len(tokens) or len(tokens) > vocab_size or len(set(tokens)) != len(tokens):
        raise Malformed(
            "tokenizer-vocabulary", f"{len(tokens)} tokens, {len(kinds)} types, {vocab_size} rows"
        )
    backend = tokenizers.Tokenizer(_bpe(tokens, file.strings("tokenizer.ggml.merges")))
    pre = file.string("tokenizer.ggml.pre")
    if pre == "qwen2":
        backend.normalizer = tokenizers.normalizers.NFC()
    backend.pre_tokenizer = _pre_tokenizer(pre)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(
        [_added(tokens[i], special=True) for i, k in enumerate(kinds) if k == _CONTROL]
    )
    backend.add_tokens([_added(tokens[i], special=False) for i, k in enumerate(kinds) if k == _USER_DEFINED])
    special = _gguf_special_tokens(file, tokens)
    if file.boolean("tokenizer.ggml.add_bos_token", default=False):
        _prepend(backend, special["bos_token"])
    template = file.string("tokenizer.chat_template", "")
    return Tokenizer(
        backend=backend,
        chat_template=ChatTemplate(template, special) if template else None,
        eos_ids=_gguf_eos_ids(file, tokens, kinds),
        vocab_size=len(tokens),
    )


def _gguf_eos_ids(file: GgufFile, tokens: tuple[str, ...], kinds: tuple[int, ...]) -> frozenset[int]:
    named = {i for i, token in enumerate(tokens) if kinds[i] == _CONTROL and token in _END_OF_TURN}
    return frozenset(named | {file.integer("tokenizer.ggml.eos_token_id")})


def _bpe(tokens: tuple[str, ...], merges: tuple[str, ...]) -> models.BPE:
    pairs = [tuple(merge.split(" ")) for merge in merges]
    try:
        return models.BPE(
            vocab={token: index for index, token in enumerate(tokens)},
            merges=[(left, right) for left, right in pairs],
            fuse_unk=False,
        )
    except Exception as error:  # the library raises bare Exception for a merge outside the vocabulary
        raise Malformed("tokenizer-merges") from error


def _added(text: str, *, special: bool) -> AddedToken:
    return AddedToken(text, special=special, normalized=False)


def _gguf_special_tokens(file: GgufFile, tokens: tuple[str, ...]) -> dict[str, str]:
    named: dict[str, str] = {}
    for name in ("bos", "eos"):
        index = file.integer(f"tokenizer.ggml.{name}_token_id")
        if not 0 <= index < len(tokens):
            raise Malformed("tokenizer-vocabulary", f"{name} token {index} of {len(tokens)}")
        named[f"{name}_token"] = tokens[index]
    return named


def _prepend(backend: tokenizers.Tokenizer, bos: str) -> None:
    backend.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, backend.token_to_id(bos))]
    )


def folder_tokenizer(folder: ModelFolder, vocab_size: int) -> Tokenizer:
    """The tokenizer of a Hugging Face folder.

    Raises:
        Malformed: ``tokenizer-file`` if ``tokenizer.json`` does not load, ``tokenizer-vocabulary`` if it
            has ids beyond the embedding, ``model-config-*``.
    """
    try:
        backend = tokenizers.Tokenizer.from_buffer(folder.files["tokenizer.json"])
    except Exception as error:  # the library raises bare Exception for every defect
        raise Malformed("tokenizer-file") from error
    size = backend.get_vocab_size(with_added_tokens=True)
    if size > vocab_size:
        raise Malformed("tokenizer-vocabulary", f"{size} tokens, {vocab_size} rows")
    backend.no_truncation()
    backend.no_padding()
    config = parse_json_object(folder.files.get("tokenizer_config.json", b"{}"))
    special = {name: text for name in ("bos_token", "eos_token") if (text := _token_text(config.get(name)))}
    template = _folder_template(folder, config)
    return Tokenizer(
        backend=backend,
        chat_template=ChatTemplate(template, special) if template else None,
        eos_ids=_folder_eos_ids(folder, backend, special),
        vocab_size=size,
    )


def _token_text(value: Any) -> str | None:
    """A special token is written as text or as ``{"content": text, ...}``."""
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None


def _folder_template(folder: ModelFolder, config: Mapping[str, Any]) -> str | None:
    stored = folder.files.get("chat_template.jinja")
    if stored is not None:
        try:
            return stored.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Malformed("chat-template-syntax", "not UTF-8") from error
    template = config.get("chat_template")
    return template if isinstance(template, str) else None


def _folder_eos_ids(
    folder: ModelFolder, backend: tokenizers.Tokenizer, special: Mapping[str, str]
) -> frozenset[int]:
    generation = parse_json_object(folder.files.get("generation_config.json", b"{}"))
    found: set[int] = set()
    for stated in (generation.get("eos_token_id"), folder.config.get("eos_token_id")):
        candidates = stated if isinstance(stated, list) else [stated]
        found.update(each for each in candidates if isinstance(each, int) and not isinstance(each, bool))
    named = backend.token_to_id(special["eos_token"]) if "eos_token" in special else None
    return frozenset(found if named is None else found | {named})
