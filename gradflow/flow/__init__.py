"""What one pass did: the calls that hooks saw, their replay, and total gradients by the backward recursion."""
