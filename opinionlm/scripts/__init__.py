"""The commands: each module's ``main`` parses, calls, reports; the scripts at the root of the repository call it."""
