"""Models behind two doors: `Chat`, anything that answers messages, and `Weights`, a local model that can also be read."""

from uphold.models.base import Chat, Completion, Conversation, InParts, Sampling, Weights
from uphold.models.doors import load, load_weights
from uphold.models.fake import FakeChat
from uphold.models.journalled import JournalledChat, JournalledWeights, journalled

__all__ = [
    "Chat",
    "Completion",
    "Conversation",
    "FakeChat",
    "InParts",
    "JournalledChat",
    "JournalledWeights",
    "Sampling",
    "Weights",
    "journalled",
    "load",
    "load_weights",
]
