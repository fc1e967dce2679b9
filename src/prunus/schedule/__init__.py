"""Schedules: when during training something is pruned, regrown or taken back. Asked once a step; none owns a loop."""
