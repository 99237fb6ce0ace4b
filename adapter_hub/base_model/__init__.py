"""A base model's files: found on this machine or fetched, and the digest that says which model they are."""
