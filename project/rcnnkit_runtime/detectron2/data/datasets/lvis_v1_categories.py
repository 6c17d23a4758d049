"""The categories of LVIS v1 (Gupta et al. 2019): frequency (r, c, f), synset, synonyms, id, definition and name."""

from .category_tables import read_table

LVIS_CATEGORIES = read_table("lvis_v1_categories")
