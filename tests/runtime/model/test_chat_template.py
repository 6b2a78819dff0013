"""Chat templates run in a sandbox, and a conversation they do not take is refused without its content."""

from __future__ import annotations

import pytest

from attest.refusal import Malformed, Refused
from runtime.model.chat_template import ChatTemplate

CANARY = "canary-7f3a"
MESSAGES = [{"role": "user", "content": CANARY}]


def render(source: str, messages: list[dict[str, object]] | None = None) -> str:
    template = ChatTemplate(source, {"bos_token": "<s>"})
    return template.render(messages or MESSAGES, add_generation_prompt=True)


def test_renders_with_the_options_templates_are_written_for() -> None:
    source = (
        "{{ bos_token }}\n{% for m in messages %}\n    {% if loop.first %}\n{{ m.content }}\n"
        "    {% endif %}\n"
        "{% break %}\n{% endfor %}"
    )
    assert render(source) == f"<s>\n{CANARY}\n"


def test_tojson_keeps_characters_as_they_are() -> None:
    """Jinja's own filter would write & as an escape, which the model never saw in training."""
    assert render("{{ messages[0].content | tojson }}", [{"content": "a&é"}]) == '"a&é"'


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ raise_exception.__globals__.json }}",
        "{{ '%s' | attr('__class__') | attr('mro') }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'system'}) }}",
        "{% for i in range(1000000000) %}x{% endfor %}",
        "{{ '{0.__class__.__base__}'.format(1) }}",
        "{{ nowhere.at.all }}",
        "{{ messages[0].content + 1 }}",
        "{{ raise_exception('roles: ' + messages[0].content) }}",
    ],
)
def test_an_escape_or_an_error_is_refused_without_content(source: str) -> None:
    with pytest.raises(Refused) as refusal:
        render(source)
    assert refusal.value.code == "chat-template-refused"
    assert CANARY not in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_a_content_that_is_no_text_is_refused() -> None:
    with pytest.raises(Refused) as refusal:
        render("{{ '<' + messages[0].content + '>' }}", [{"role": "user", "content": None}])
    assert refusal.value.code == "chat-template-refused"


def test_there_is_no_clock() -> None:
    """The same conversation is the same prompt tomorrow."""
    assert render("{{ 'yes' if strftime_now is defined else 'no' }}") == "no"


def test_a_huge_template_is_refused_before_it_is_compiled() -> None:
    with pytest.raises(Malformed) as refusal:
        ChatTemplate("x" * (1 << 17 | 1), {})
    assert refusal.value.code == "chat-template-too-large"


def test_a_template_with_a_mistake_is_refused() -> None:
    with pytest.raises(Malformed) as refusal:
        ChatTemplate("{% if %}", {})
    assert refusal.value.code == "chat-template-syntax"
