"""How the papers' tables and pictures are made; not packaged."""
