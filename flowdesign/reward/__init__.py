"""The reward ensemble: predict an image's score from (prompt, workflow), without the image."""
