"""`uphold train`: fine-tuning, preference training, Constitutional AI and AI feedback, on any model whose weights are here."""

from uphold.cli.common import group

app = group(
    "Train a model towards its constitution.",
    __name__,
    ("supervised", "preference", "reward", "rl", "feedback", "recipes", "goodhart", "hack", "process", "check", "tax"),
)
