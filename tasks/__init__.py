"""How: one stage a file, and `tasks.core` for what stages share."""
