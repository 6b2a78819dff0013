"""The OpenAI-shaped API, as both sides read it.

Both sides read the same bytes with the same models, so what the gateway decided on is what the runtime runs.
Strict types (``"16"`` is not a number, ``1`` is not true). A documented OpenAI parameter that cannot change
what this runtime answers is accepted and ignored; one that would (audio, web search) is refused by
name, because an answer without it would be taken for one with it; all others are unknown parameters.

    parse       a body, validated or refused in the API's words
    chat, completions, embeddings, tokenize
                what each route takes; ``sampling`` is what the first two have in common
    messages, forms, fields
                what those are made of
    answers     what each route gives
"""
