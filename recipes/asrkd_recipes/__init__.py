"""What recipes share: the study, stage by stage, and the demo's synthetic speech."""
