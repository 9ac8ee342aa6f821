"""Wander, the built-in world: endless side-scrolling landscapes with their labels and captions.

Import from the modules; `attributes` and `captions` need no torch.
"""
