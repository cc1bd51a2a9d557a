"""Trains and records one run; with `-m`, or by an experiment that says so, a sweep. `--help` lists the choices."""

from gradflow.commands.train import main

if __name__ == "__main__":
    main()
