"""Everything about the authors' release: names, files, settings, and arithmetic that differs."""
