"""Wander, the built-in world: endless side-scrolling landscapes with labels and captions.

Import from the modules. `attributes` and `words` do not need torch.
"""
