"""Pictures of a run, one function each, and the page that shows them. No TensorFlow here."""
