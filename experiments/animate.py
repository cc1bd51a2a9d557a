"""Draws what changes while a network learns as animations: a GIF, and a page to play, stop and step it offline."""

from gradflow.commands.animate import main

if __name__ == "__main__":
    main()
