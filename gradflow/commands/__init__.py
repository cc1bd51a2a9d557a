"""Commands that train, compare and ask: the only place that knows Hydra. Run them from a clone, see the README."""
