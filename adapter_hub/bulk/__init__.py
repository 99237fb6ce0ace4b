"""Transcribing thousands of hours, in one process or on a cluster."""
