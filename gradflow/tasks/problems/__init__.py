"""Long-range problems, one a file: the answer lies many steps back, at any length.

What they draw is a function of the length T, the number of sequences N and a random generator, vectorised, and all
sequences have length T. Indices stand for one-hot inputs; pairs of numbers are inputs as they are.
"""
