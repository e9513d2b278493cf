"""The three losses, the teacher's centring and sharpening, and the schedules (METHOD section 5)."""
