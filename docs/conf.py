"""How the documentation is built: ``make docs``."""

project = "dspex"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
exclude_patterns = ["images"]
autodoc_typehints = "signature"
napoleon_google_docstring = False
napoleon_use_ivar = True  # an attribute may be documented where it is declared too
suppress_warnings = [
    "ref.python"
]  # two rooms may each have an `Adapter`; a name in a signature means its own
