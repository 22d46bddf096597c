"""A generation run as tests kill it: `python synth_child.py OUT` with a model slow enough to strike in the middle."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from synth_fakes import writer_chat

from uphold.constitution import Constitution
from uphold.core import progress
from uphold.data.synth import Settings, synthesise

SETTINGS = Settings(rows=20, clauses=("forgery", "privacy"), languages=("en", "es"))


def run(out, latency_s=0.0):
    progress.quiet()
    return synthesise(Constitution.load("storefront"), writer_chat(latency_s=latency_s), out, SETTINGS)


if __name__ == "__main__":
    run(sys.argv[1], 0.1)
