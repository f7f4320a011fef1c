"""Systems of the same field that stand on this project's floors, each in a folder of its own."""
