"""What stages share. Imports nothing from flows, slurm or a stage."""
