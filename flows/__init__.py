"""The order of steps: one file a stage, and the whole cycle on one page."""
