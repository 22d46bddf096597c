"""`uphold guard`: train a guard from a constitution, score text with it, measure it."""

from uphold.cli.common import group

app = group(
    "Train and measure constitutional classifiers.",
    __name__,
    ("train", "score", "measure", "export", "cascade", "drift", "injection"),
)
