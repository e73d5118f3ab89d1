"""Soft prompts of a frozen language model, on one mechanism: ordinary text with slots, whose embedding rows are replaced by params."""
