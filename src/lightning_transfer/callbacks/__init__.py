"""What a Trainer calls: unfreezing by stages, and the audit that frozen is frozen."""
