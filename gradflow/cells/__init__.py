"""Cells and the layers that run them: one step as on the slide, beside it the numbers of its Jacobian."""
