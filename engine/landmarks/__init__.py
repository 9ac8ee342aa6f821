"""Landmarks: the plan of a scene's landmarks, and reading them from prompts. Contains no models."""
