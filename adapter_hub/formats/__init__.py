"""Every file format, one spelling each: records, their canonical bytes, and how things are named."""
