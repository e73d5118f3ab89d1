"""Small whole runs of every method, kind of model, rule and mentor, whose results two versions of the source can be compared by."""
