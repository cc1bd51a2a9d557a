"""Reproduces exact and published results, draws each, and says in one table whether they hold."""

from gradflow.commands.reproduce import main

if __name__ == "__main__":
    main()
