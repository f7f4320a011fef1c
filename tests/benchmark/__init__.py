"""`make bench`: the straightforward way of an SPT step and of decoding beside this project's, in one run."""
