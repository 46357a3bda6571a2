"""A local page: draw a character, and a trained model draws more of it."""
