"""Recipes, methods, similarity, training, and the makers of speech corpus, base model and catalogue."""
