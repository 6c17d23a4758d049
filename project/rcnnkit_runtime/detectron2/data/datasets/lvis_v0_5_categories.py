"""The categories of LVIS v0.5 (Gupta et al. 2019): frequency (r, c, f), synset, synonyms, id, definition and name."""

from .category_tables import read_table

LVIS_CATEGORIES = read_table("lvis_v0_5_categories")
