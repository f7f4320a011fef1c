"""A small set of questions in the form of LaMP-3, made by a program."""
