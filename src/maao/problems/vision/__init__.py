"""Prompts of frozen dual encoders: images, class names, and the words around them."""
