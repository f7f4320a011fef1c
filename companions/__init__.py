"""Other systems of the field on the floors of this project, a package each; none imports another."""
