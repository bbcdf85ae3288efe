"""How the repository's own assets were made; not part of the installed package."""
