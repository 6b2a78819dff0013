"""What a form may cost. Measured figures stand in docs/explanation/engine.md."""

from __future__ import annotations

from dataclasses import dataclass

from llguidance import LLParserLimits


@dataclass(frozen=True)
class GuideLimits:
    """Bounds of one grammar, and of what is kept.

    Args:
        grammar_bytes: of its text.
        first_fuel: of building its lexer, about 50,000 a millisecond.
        step_fuel: of its lexer per token, about 14,000 a millisecond.
        step_items: of its parser per token, about 20,000 a millisecond.
        lexer_states: kept in memory, about 0.6 KiB each.
        symbols: of its rules.
        kept: compiled grammars in all.
        kept_per_tenant: of those, one tenant's.
        patience_s: that a request waits for its form to be compiled.
    """

    grammar_bytes: int = 1 << 18
    first_fuel: int = 1_000_000
    step_fuel: int = 100_000
    step_items: int = 50_000
    lexer_states: int = 40_000
    symbols: int = 200_000
    kept: int = 256
    kept_per_tenant: int = 32
    patience_s: float = 20.0

    def of_parser(self) -> LLParserLimits:
        """As the library wants them; its messages may quote the grammar, so they are kept short."""
        return LLParserLimits(
            initial_lexer_fuel=self.first_fuel,
            step_lexer_fuel=self.step_fuel,
            step_max_items=self.step_items,
            max_lexer_states=self.lexer_states,
            max_grammar_size=self.symbols,
            verbose_errors=False,
        )
