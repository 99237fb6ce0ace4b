"""Stores: where artifacts are kept, with the claims about them: a folder or the Hub; and the cache."""
