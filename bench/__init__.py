"""The machine that runs methods through protocols."""
