"""What may vary: variables, and spaces of them. Plain data that everything else reads."""
