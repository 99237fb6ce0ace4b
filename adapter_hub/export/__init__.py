"""A base model with an adapter merged into it, in the formats of other tools."""
