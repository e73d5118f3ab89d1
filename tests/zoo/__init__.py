"""The zoo: a tiny random model of every language model class that transformers knows, tried through the product's own path."""
