"""Reports of one file: tables and pictures in an HTML page that needs nothing else."""
