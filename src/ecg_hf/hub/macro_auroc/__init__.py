"""A folder that ``evaluate.load`` takes: its module has the folder's name."""
