"""What is done with a pretrained encoder: load it, embed scans, look into artefacts."""
