"""The commands of ``python -m spike_auth`` that are more than one call."""
