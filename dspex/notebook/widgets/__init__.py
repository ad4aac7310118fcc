"""Live views of what runs in the kernel: each an ES module in `static/` and its Python twin here."""
