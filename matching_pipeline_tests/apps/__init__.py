"""Twelve apps as teams build them: a folder each, with tables, declarations and the app's statements."""
