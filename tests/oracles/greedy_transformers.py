"""Ask transformers for the answers that the default suite holds the engine to.

    python -m tests.oracles.greedy_transformers

Writes tests/vectors/greedy/smollm2.json from the pulled model.
"""

from __future__ import annotations

from runtime import settings
from runtime.model.loaded import OpenModel, open_model
from runtime.model.store import stored_model
from tests.simulators.greedy_answers import Stored, generated, save, transformers_model

QUESTIONS = [
    "Hi",
    "What is the capital of France?",
    "Write a haiku about the sea.",
    "List three uses of a paperclip.",
    "Explain photosynthesis to a child.",
    "def fibonacci(n):",
    "Translate 'good morning' to Spanish.",
    "What is 17 + 25?",
    "Who wrote Hamlet?",
    "Summarise: " + "The cat sat on the mat and looked at the moon. " * 6,
    "Tell me a joke about computers.",
    "Give me a recipe for pancakes, step by step.",
    "Why is the sky blue?",
    "¿Cómo estás?",
    "Name the planets in order.",
    "Correct the grammar: she go to school yesterday",
    "Is a tomato a fruit? " * 20,
    "What rhymes with orange?",
]
TEXTS = [
    "Once upon a time",
    "The",
    "In 1969, the first",
    "import numpy as np\n",
    "Question: why? Answer: because. " * 30,
    "All happy families are alike; every unhappy family is unhappy in its own way. " * 36,
]
TOKENS = 12


def prompts(opened: OpenModel) -> list[list[int]]:
    """Chats and plain texts, of one token to more than five hundred."""
    tokenizer = opened.tokenizer
    chats = [tokenizer.encode_chat([{"role": "user", "content": question}]) for question in QUESTIONS]
    return chats + [tokenizer.encode(text) for text in TEXTS]


def main() -> None:
    """Ask and write."""
    opened = open_model("smollm2")
    model = transformers_model(stored_model(settings.home(), "smollm2").weights)
    answers = [generated(model, [prompt], TOKENS)[0] for prompt in prompts(opened)]
    save(Stored(opened.base_model_digest, answers))


if __name__ == "__main__":
    main()
