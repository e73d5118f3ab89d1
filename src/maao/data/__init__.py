"""Where examples come from (files, hub data sets, packages) and how they become three disjoint splits."""
