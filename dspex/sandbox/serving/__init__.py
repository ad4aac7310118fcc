"""What the sandbox's HTTP server is made of: requests, answers, replies, mishaps, and the routes between them."""
