"""`uphold redteam`: attack a model or a guarded endpoint, and grade what it reveals."""

from uphold.cli.common import group
from uphold.cli.redteam.campaign import app as campaign

app = group("Attack a model and grade what it reveals.", __name__, ("run", "harden", "agents", "plan", "interchange"))
app.add_typer(campaign, name="campaign")
