"""What the Python side of the tests shares."""
