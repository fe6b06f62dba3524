"""What a Trainer calls: thawing by stages, and the audit that frozen is frozen."""
