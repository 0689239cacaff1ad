"""BigEarthNet as published: bands, classes, folders and files. No TensorFlow here."""
