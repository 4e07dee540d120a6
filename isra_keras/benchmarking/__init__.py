"""The grid behind `python -m isra_keras.benchmark`: cells, worker processes, results as jsonl, tables and evidence."""
