"""English policy prose read by rules: Markdown, sentences, modals, acts. `uphold.constitution.compile` puts it together."""
