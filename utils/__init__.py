"""The ground floor: what any project of machine learning could use; nothing of this one's data or method."""
