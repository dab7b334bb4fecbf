"""How Sphinx makes the site: scripts/docs.py calls it."""

project = "Assistant"
extensions = ["myst_parser"]
# Links may lead to any heading, and to one that isn't there they fail the build.
myst_heading_anchors = 3
# A block without a language is for a shell.
highlight_language = "sh"
# A quote may be a shell's.
smartquotes = False

# A session may quote a text of several lines, which the lexer of sessions doesn't know.
suppress_warnings = ["misc.highlighting_failure"]

# Fonts are the reader's own, colours follow the reader's scheme, and nothing is fetched from elsewhere.
html_theme = "furo"
html_title = "Assistant"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
