"""Makes the image files of this folder that come from Pillow, and prints what Pillow reads of them.

Needs Pillow (13.0 wrote the files here). The numbers that it prints stand in the tests of `src/image_file.rs`.
"""
from PIL import Image, ImageOps

ORIENTATION = 0x0112


def gradient():
    """The picture of 12 rows and 17 columns that `colour.jpg` shows too."""
    image = Image.new("RGB", (17, 12))
    image.putdata([(x * 15, y * 20, (x * y) % 256) for y in range(12) for x in range(17)])
    return image


def fnv(data):
    """FNV-1a, as the tests compute it."""
    sum_ = 0xCBF29CE484222325
    for byte in data:
        sum_ = ((sum_ ^ byte) * 0x100000001B3) % (1 << 64)
    return sum_


image = gradient()
exif = Image.Exif()
exif[ORIENTATION] = 6
image.save("lossy.webp", quality=80, exif=exif)
clear = image.convert("RGBA")
clear.putalpha(Image.new("L", image.size, 128))
clear.save("clear.webp", quality=80)
image.save("moving.webp", save_all=True, append_images=[image.rotate(180)], lossless=True)
for name in ["lossy.webp", "clear.webp"]:
    read = ImageOps.exif_transpose(Image.open(name)).convert("RGB")
    print(name, read.size, hex(fnv(read.tobytes())))

# The six pixels of two rows and three columns, by their numbers.
for orientation in range(1, 9):
    small = Image.new("L", (3, 2))
    small.putdata(range(6))
    small.getexif()[ORIENTATION] = orientation
    turned = ImageOps.exif_transpose(small)
    print(orientation, turned.size[::-1], list(turned.tobytes()))
