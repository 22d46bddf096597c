"""What other tools measured, read into our records, and our findings written for other tools. See docs/interchange.md."""

from uphold.redteam.interchange.readers import FORMATS, Imported, read
from uphold.redteam.interchange.replay import beside, exact, replayed, wanting
from uphold.redteam.interchange.sarif import sarif

__all__ = ["FORMATS", "Imported", "beside", "exact", "read", "replayed", "sarif", "wanting"]
