"""Small pictures as other programs write them, and what Pillow (libjpeg-turbo) reads in them: ../golden/photographs.

Each `NAME.jpg` has a `NAME.png` beside it: the pixels of `Image.open(NAME.jpg).convert("RGB")`, grey where it is grey. OpenCV
writes the sampling 4:4:0 and 4:1:1, which Pillow does not; tifffile writes TIFF.
"""

import io
import pathlib

import cv2
import numpy as np
import tifffile
from PIL import Image

FOLDER = pathlib.Path(__file__).parent.parent / "golden" / "photographs"


def palette():
    """Red, green, blue and grey stripes, two pixels wide, by a palette of four."""
    image = Image.new("P", (8, 4))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 77, 77, 77])
    image.putdata([x // 2 for _ in range(4) for x in range(8)])
    image.save(FOLDER / "palette.png")


def inks():
    """White, cyan, yellow and half black, 16 pixels wide so that no block of the JPEG is mixed."""
    colours = [(0, 0, 0, 0), (255, 0, 0, 0), (0, 0, 255, 0), (0, 0, 0, 128)]
    cmyk = Image.new("CMYK", (64, 16))
    cmyk.putdata([colours[x // 16] for _ in range(16) for x in range(64)])
    return cmyk


def picture(width, height):
    """Waves of every colour with some noise: all coefficients and both chroma planes are at work."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 3 + y / 7), np.cos(x / 5 - y / 4), np.sin((x + 2 * y) / 6)]
    noise = np.random.default_rng(0).normal(0, 12, (height, width, 3))
    return np.clip(127 + 100 * np.stack(waves, 2) + noise, 0, 255).astype(np.uint8)


def jpeg(image, **options):
    file = io.BytesIO()
    image.save(file, "JPEG", **{"quality": 85, **options})
    return file.getvalue()


def opencv(pixels, sampling):
    return cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling])[1].tobytes()


def jpegs():
    """Contents of each JPEG file by name."""
    colour = Image.fromarray(picture(37, 35))
    wide = Image.fromarray(picture(65, 3))
    cmyk = jpeg(colour.convert("CMYK"), quality=95)
    adobe = cmyk.index(b"Adobe")
    return {
        "cmyk": jpeg(inks(), quality=100, subsampling=0),
        "444": jpeg(colour, subsampling=0),
        "422": jpeg(colour, subsampling=1),
        "420": jpeg(colour, subsampling=2),
        "440": opencv(picture(37, 35), cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440),
        "411": opencv(picture(37, 35), cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411),
        "420-progressive": jpeg(colour, subsampling=2, progressive=True),
        "420-wide": jpeg(wide, subsampling=2, restart_marker_rows=1),
        "420-narrow": jpeg(Image.fromarray(picture(2, 33)), subsampling=2),
        "grey": jpeg(colour.convert("L")),
        "rgb": jpeg(colour, keep_rgb=True),
        "inks": cmyk,
        # Byte 11 of Adobe's segment: 2 says that the first three of four channels are Y, Cb and Cr.
        "ycck": cmyk[: adobe + 11] + b"\x02" + cmyk[adobe + 12 :],
    }


def tiffs():
    """Real numbers k / 11 (the second of three channels 1 minus that), 5000 k in 16 bits with the high byte first, and k."""
    k = np.arange(12).reshape(3, 4)
    unit = k / 11
    for name, pixels in [
        ("real", unit.astype(np.float32)),
        ("real-64", unit),
        ("real-colour", np.stack([unit, 1 - unit, unit], 2).astype(np.float32)),
        ("real-wide", k.astype(np.float32)),
    ]:
        tifffile.imwrite(FOLDER / f"{name}.tif", pixels, metadata=None)
    tifffile.imwrite(FOLDER / "sixteen-big.tif", (5000 * k).astype(">u2"), byteorder=">", metadata=None)


def main():
    FOLDER.mkdir(exist_ok=True)
    palette()
    tiffs()
    for name, contents in jpegs().items():
        (FOLDER / f"{name}.jpg").write_bytes(contents)
        image = Image.open(io.BytesIO(contents))
        image = image if image.mode == "L" else image.convert("RGB")
        image.save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
