"""Arrays in, arrays out: the science, with no Beam, no files, no torch and no records."""
