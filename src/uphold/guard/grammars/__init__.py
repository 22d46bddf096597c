"""Grammars that make prompts to train guards on, where the written corpus is thin: requests for code, everyday instructions, personas.

Each gives seeded labelled `Sample`s under its own source name. What they say was written for them; none is taken from a set that is
measured on. Left out: corpora of real texts (`guard/corpora.py`).
"""
