"""Mentors that say what classes mean, in lines of text: examples of a class, and descriptions of it."""
