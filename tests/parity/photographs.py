"""Two small pictures as other programs write them: ../golden/photographs (Pillow)."""

import pathlib

from PIL import Image

FOLDER = pathlib.Path(__file__).parent.parent / "golden" / "photographs"


def main():
    FOLDER.mkdir(exist_ok=True)
    # Red, green, blue and grey stripes, two pixels wide, by a palette of four.
    palette = Image.new("P", (8, 4))
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 77, 77, 77])
    palette.putdata([x // 2 for _ in range(4) for x in range(8)])
    palette.save(FOLDER / "palette.png")
    # White, cyan, yellow and half black, 16 pixels wide so that no block of the JPEG is mixed.
    inks = [(0, 0, 0, 0), (255, 0, 0, 0), (0, 0, 255, 0), (0, 0, 0, 128)]
    cmyk = Image.new("CMYK", (64, 16))
    cmyk.putdata([inks[x // 16] for _ in range(16) for x in range(64)])
    cmyk.save(FOLDER / "cmyk.jpg", quality=100, subsampling=0)
    print([Image.open(FOLDER / "cmyk.jpg").convert("RGB").getpixel((8 + 16 * i, 8)) for i in range(4)])


if __name__ == "__main__":
    main()
