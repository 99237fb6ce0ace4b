"""What all commands share: global options, words of the command line, output, progress and errors."""
