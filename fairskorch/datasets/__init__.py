"""Data sets with groups: readers of official layouts, and data made on the spot."""
