"""From a trained classifier to what others open: exported models, land-cover maps, bands super-resolved to 10 m."""
