"""What stands where in a world with landmarks: the plan, and what prompts ask of it. Knows no model."""
