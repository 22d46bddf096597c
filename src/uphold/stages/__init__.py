"""The stages of the loop: each takes what earlier stages left, leaves files and a summary, and is redone only when its inputs change."""
