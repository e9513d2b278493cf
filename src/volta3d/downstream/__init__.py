"""What is fitted on top of encoders: classification and segmentation."""
