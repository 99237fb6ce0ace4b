"""Audit: every promise of an artifact and of a registry, checked from the bytes up."""
