"""The parts of the report page: read the run, compare evaluations, draw, and render one self-contained HTML file."""
