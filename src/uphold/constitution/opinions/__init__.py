"""Opinions of many people on statements: votes, opinion groups, consensus. `uphold.constitution.collective` puts it together."""
