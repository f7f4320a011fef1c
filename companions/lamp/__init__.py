"""LaMP, ROPG and RSPG: retrieval from a user's profile, trained by the LM's feedback (arXiv 2304.11406, 2404.05970)."""
