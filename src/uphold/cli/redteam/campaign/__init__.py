"""`uphold redteam campaign`: a human bug bounty, from invitation to headline figures."""

from uphold.cli.common import group

app = group("Run a human red-team campaign.", __name__, ("manage", "archive"))
