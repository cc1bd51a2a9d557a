"""Makes the lecture: trains what its figures need and draws the whole deck in its order."""

from gradflow.commands.lecture import main

if __name__ == "__main__":
    main()
