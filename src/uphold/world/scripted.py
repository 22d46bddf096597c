"""The backend `scripted:`: the shop's reference agents by name. What they do is in `shop_agents`, read only when one is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uphold.core.errors import ConfigError
from uphold.core.registry import register

if TYPE_CHECKING:
    from uphold.world.shop_agents import ScriptedAgent

AGENTS = ("careful", "naive")


@register("backend", "scripted")
def open_scripted(rest: str) -> ScriptedAgent:
    """scripted:careful or scripted:naive: reference agents of the shop, no models, for uphold redteam agents"""
    from uphold.world.shop_agents import ScriptedAgent

    if rest not in AGENTS:
        raise ConfigError(f"model 'scripted:{rest}': write {' or '.join(f'scripted:{name}' for name in AGENTS)}")
    return ScriptedAgent(rest, is_naive=rest == "naive")
