"""Survey steps: bytes to records, records to measured records. Imports nothing of ours above it, and no Beam here."""
