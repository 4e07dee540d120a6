"""Domains, tasks and batches. Import the modules themselves: `tasks`, `pairs`, `decode`, ..."""
