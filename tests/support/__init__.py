"""What the Python side of the tests shares."""

from support.surroundings import settle

settle()
