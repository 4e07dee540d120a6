"""The demo: predictions and attention in a browser. `python -m app --run DIR`."""
