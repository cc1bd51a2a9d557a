"""Compares the runs below a folder: a table, and figures. It trains nothing."""

from gradflow.commands.compare import main

if __name__ == "__main__":
    main()
