"""The method itself, free of torch, network and disk: the loop, acceptance rules, plans, seeds and budgets."""
