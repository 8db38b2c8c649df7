"""Where: launchers that start a stage's process and watch it."""
