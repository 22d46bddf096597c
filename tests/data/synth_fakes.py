"""A generator for tests: answers every prompt of `data.synth` in the right format, with words that are a hash of the prompt."""

import hashlib
import re

from uphold.models import FakeChat

WORDS = (
    "harbour copper lantern meadow violin winter garden ticket silver market bridge candle orchard pepper railway saddle thunder "
    "velvet walnut anchor basket cactus dolphin engine feather glacier hammer island jacket kettle ladder magnet needle oyster parrot "
    "quartz ribbon sailor tunnel umbrella valley whistle yogurt zebra acorn barrel cherry donkey ember falcon"
).split()


def drawn(key, n):
    """`n` words, a function of the key."""
    state = hashlib.sha256(key.encode()).digest() * (n // 30 + 1)
    return " ".join(WORDS[byte % len(WORDS)] for byte in state[:n])


def count_in(prompt):
    return int(re.search(r"(?:List|Write) (\d+) ", prompt)[1])


def writer(conversation):
    """Topics, requests, conversations, twins, labels, critiques and replies, as a model would give them on a good day."""
    said = conversation[-1].content
    if "Answer with YES or NO" in said:
        return "YES" if "wicked" in said else "NO"
    if "verdict: guilty" in said:
        return "It keeps the rule. verdict: innocent"
    if "Answer with the changed request" in said:
        request = said.split(":\n", 1)[1].split("\nChange")[0]
        return request.replace("wicked", "kindly") if "wicked" in request else request.replace("kindly", "wicked")
    mood = "wicked" if "Write" in said and "requests that the rule refuses" in said else "kindly"
    if "Start each turn on a new line" in said:
        return f"User: {drawn(said + 'a', 8)}\nAssistant: {drawn(said + 'b', 5)}\nUser: {mood} {drawn(said + 'c', 9)}"
    if "numbered list" in said:
        start = f"{mood} " if "Write" in said else ""
        return "\n".join(f"{i}. {start}{drawn(f'{said}{i}', 11)}" for i in range(1, count_in(said) + 1))
    return f"Here is what I know: {drawn(said, 12)}."


def writer_chat(**options):
    return FakeChat(writer, name="writer", **options)
