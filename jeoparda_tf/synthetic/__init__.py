"""Archives in BigEarthNet's layout to try everything on: drawn by rules, or mosaics of EuroSAT images."""
