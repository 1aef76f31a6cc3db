"""Shared by the Python-driven tests."""

from support.surroundings import settle

settle()
