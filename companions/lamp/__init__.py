"""LaMP (Salemi et al., 2024): personalised text from a user's profile, and retrieval that the LM's feedback trains."""
