"""Adversarial training rounds: attack, learn from what got through, measure again with attacks that nothing was trained on."""
