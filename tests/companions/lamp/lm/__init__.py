"""The LM of LaMP."""
