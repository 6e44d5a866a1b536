"""A fake sky with known truth, one module for each kind of record."""
