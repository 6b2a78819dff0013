"""A soak's figures as a page of Markdown."""

from __future__ import annotations

from typing import Any


def page(figures: dict[str, Any]) -> str:
    """What was sent, what came of it, and what held."""
    load, memory, end = figures["load"], figures["memory"], figures["end"]
    spots = figures["spot_checks"]
    checks = "\n".join(f"| {name} | {'yes' if held else 'NO'} |" for name, held in figures["checks"].items())
    ended = "\n".join(f"| {name} | {count} |" for name, count in sorted(figures["ended"].items()))
    told = figures["end"]["store"]
    return f"""# Soak of {figures["minutes"]} minutes: {"held" if figures["held"] else "FAILED"}

{load["requests"]} requests at {load["rate_per_s"]} a second ({load["prompt_tokens"]} prompt tokens,
{load["tokens_asked"]} to generate), {load["adapters_used"]} adapters and the base, weights in
{figures["mode"]}, {figures["threads"]} threads, paused for {figures["paused_s"]} s that count for nothing.

| check | holds |
|---|---|
{checks}

| ended | requests |
|---|---|
{ended}

- Spot checks: {spots["equal"]} of {spots["compared"]} equal, {len(spots["near_ties"])} near ties,
  {len(spots["wrong"])} wrong.
- Memory: {memory["first"]} MiB in the first quarter after warm-up, {memory["last"]} in the last
  ({memory["growth_percent"]} %), at most {memory["highest"]}; a fitted line drifts by
  {memory["drift_percent"]} %.
- Between tokens: {figures["between_tokens_ms"]} ms; to the first: {figures["first_token_ms"]} ms.
  The longest wait was {figures["longest_gap_s"]} s; others kept the processor from the runtime for
  {figures["server_waited_for_a_processor_s"]} s in all, which is nobody's stall.
- Clients killed: {figures["clients_killed"]}. Adapters read {told["loaded"]} times, placed
  {told["placed"]}, evicted {told["evicted"]}. Preemptions: {end["engine"]["preemptions"]}.
"""
