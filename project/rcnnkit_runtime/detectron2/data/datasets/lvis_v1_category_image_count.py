"""In how many training images of LVIS v1 each category occurs; the federated loss draws its classes by them."""

from .category_tables import read_table

LVIS_CATEGORY_IMAGE_COUNT = read_table("lvis_v1_category_image_count")
