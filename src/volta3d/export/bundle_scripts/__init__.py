"""What a bundle carries with it; nothing here imports volta3d."""
