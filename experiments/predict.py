"""Asks a trained model: the probability of each label, and how much each character had to do with the answer."""

from gradflow.commands.predict import main

if __name__ == "__main__":
    main()
