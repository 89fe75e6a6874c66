"""`python -m lightactors`: the command line."""

from lightactors.cli import main

if __name__ == "__main__":
    main()
