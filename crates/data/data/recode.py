"""Writes the photographs beside it as lossless WebP, a third shorter than PNG and the same pixels.

    pip install pillow
    python crates/data/data/recode.py

It takes the PNG files that the examples `make_photos` and `make_photo_crops` have made, checks the pixels, and removes them.
"""

from pathlib import Path

from PIL import Image, ImageChops

HERE = Path(__file__).parent

for png in sorted([*HERE.glob("*.png"), *HERE.glob("photos/*.png")]):
    webp = png.with_suffix(".webp")
    image = Image.open(png)
    image.save(webp, lossless=True, quality=100, method=6, exact=True)
    assert ImageChops.difference(image, Image.open(webp)).getbbox() is None, png
    png.unlink()
