"""``python -m opinionlm``: the console command `opinionlm`."""

from opinionlm.scripts.console import main

if __name__ == "__main__":
    main()
