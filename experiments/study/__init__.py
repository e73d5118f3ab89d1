"""The small-scale study: does the language model help, or would any jump do?"""
