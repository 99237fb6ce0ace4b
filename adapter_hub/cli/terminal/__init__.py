"""What commands share: global options, arguments, output, progress and errors."""
