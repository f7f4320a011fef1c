"""`make bench`: a baseline of an SPT step and of decoding beside this project's, in one run."""
