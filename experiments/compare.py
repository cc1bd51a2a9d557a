"""Trains the main job and compares its runs, or those that are there: a table, and figures."""

from gradflow.commands.compare import main

if __name__ == "__main__":
    main()
