"""A resolved constitution as YAML: one file that stands alone and says where each clause came from.

Takes a `Resolution`; the text loads to the same clauses, so the result of includes and overrides can be read, reviewed, kept and compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uphold.constitution.resolution import Origin
from uphold.constitution.schema import Clause, Constitution
from uphold.core.config import dump_yaml

_LEADING = ("id", "text", "modality", "priority", "scope", "severity", "category")


def clause_fields(clause: Clause) -> dict[str, Any]:
    """The fields of a clause that say something, in the order a reader wants them; examples of classes stand under their class only."""
    fields = clause.model_dump(mode="json", exclude_defaults=True)
    fields["priority"], fields["scope"], fields["severity"] = clause.priority, clause.scope, clause.severity
    for key, label in (("harmful", "harmful"), ("harmless", "benign")):
        inside = {line for group in clause.classes if group.label == label for line in group.examples}
        if lines := [line for line in fields.pop(key, ()) if line not in inside]:
            fields[key] = lines
    rest = [key for key in Clause.model_fields if key not in _LEADING and key in fields]
    return {key: fields[key] for key in (*_LEADING, *rest) if key in fields}


def to_yaml(constitution: Constitution, origins: Mapping[str, Origin] | None = None) -> str:
    """YAML text of a constitution; above each clause a comment with its origin, where one is given."""
    head = {"uphold": 1, "name": constitution.name, "version": constitution.version}
    head["description"] = constitution.description
    parts = [dump_yaml({key: value for key, value in head.items() if value}), "\nclauses:\n"]
    for clause in constitution.clauses:
        if origins and clause.id in origins:
            parts.append(f"  # from {origins[clause.id]}\n")
        lines = dump_yaml([clause_fields(clause)]).splitlines()
        parts.append("".join(f"  {line.rstrip()}\n" if line else "\n" for line in lines) + "\n")
    return "".join(parts).rstrip("\n") + "\n"
