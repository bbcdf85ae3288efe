"""Every option of every script: fields, checks, parser."""
