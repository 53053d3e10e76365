"""The command `matching-pipeline`: one file a command, and what it prints."""
