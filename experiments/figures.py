"""Redraws figures of finished runs, those asked for. It trains nothing."""

from gradflow.commands.figures import main

if __name__ == "__main__":
    main()
