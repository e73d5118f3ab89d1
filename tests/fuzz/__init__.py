"""Hostile input for everything that reads what others wrote. `make fuzz`: 20,000 inputs a target; the fast suite: 500 each."""
