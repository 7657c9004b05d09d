"""What deepinv, numpy and scikit-image make of the same images: ../golden/operators.json, with --write.

Without it, the file is compared with what they make today. The tests compare it with what the operators make.
"""

import argparse
import json
import pathlib
import sys
import warnings

import numpy
import torch

from noise import normals

GOLDEN = pathlib.Path(__file__).parent.parent / "golden" / "operators.json"
SHAPE = (1, 3, 16, 12)


def image():
    """N(0, 1) of seed 5, as the tests draw it."""
    return normals(5, 0, 0, SHAPE).double()


def rounded(values, digits=9):
    return [round(float(v), digits) for v in torch.as_tensor(values).flatten()]


def deepinv_cases():
    import deepinv.physics as physics
    from deepinv.physics import functional

    x = image()
    kernel = normals(6, 0, 0, (1, 1, 5, 3)).double() + 0.5
    kernel = kernel / kernel.sum()
    blurs = {"circular": "circular", "reflect": "reflect", "zero": "constant"}
    for ours, theirs in blurs.items():
        y = physics.Blur(filter=kernel, padding=theirs)(x)
        yield {"operator": "blur", "boundary": ours, "kernel": rounded(kernel), "y": rounded(y)}
    # deepinv multiplies spectra on the grid of the image: the circular convolution again.
    y = physics.BlurFFT(img_size=SHAPE[1:], filter=kernel)(x)
    yield {"operator": "blur", "boundary": "circular", "kernel": rounded(kernel), "y": rounded(y)}
    for angle in (0.0, 30.0, 90.0, 135.0):
        turned = functional.gaussian_blur(psf_size=(9, 9), sigma=(2.0, 0.7), angle=angle).double()
        yield {"operator": "anisotropic", "angle": angle, "kernel": rounded(turned)}
    for factor in (2, 4):
        y = physics.DownsamplingMatlab(factor=factor)(x)
        yield {"operator": "bicubic", "factor": factor, "y": rounded(y)}
    # Its own weights are those of BT.601 to three digits.
    yield {"operator": "luma", "y": rounded(physics.Decolorize(srf=(0.299, 0.587, 0.114))(x))}
    mask = (normals(7, 0, 0, SHAPE[2:]) > 0).double()
    for channel in range(SHAPE[1]):
        complex_image = torch.cat([x[:, channel : channel + 1], torch.zeros_like(x[:, :1])], 1)
        y = physics.MRI(mask=mask[None, None], img_size=SHAPE[2:])(complex_image)
        yield {"operator": "mri", "channel": channel, "mask": rounded(mask), "y": rounded(y)}


def numpy_cases():
    x = numpy.pad(image().numpy(), [(0, 0), (0, 0), (4, 4), (3, 3)])
    yield {"operator": "phase-retrieval", "y": rounded(numpy.abs(numpy.fft.fftshift(numpy.fft.fft2(x, norm="ortho"), (2, 3))))}


def radon_cases():
    from skimage.data import shepp_logan_phantom
    from skimage.transform import radon, resize

    # An odd side: scikit-image turns about the pixel n // 2, the operator about the middle.
    phantom = resize(shepp_logan_phantom(), (63, 63), anti_aliasing=True)
    angles = numpy.arange(12) * 15.0
    sinogram = radon(phantom, angles, circle=True)
    yield {"operator": "radon", "x": rounded(phantom, 4), "y": rounded(sinogram.T.copy(), 4)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    warnings.simplefilter("ignore")
    cases = [*deepinv_cases(), *numpy_cases(), *radon_cases()]
    if parser.parse_args().write:
        GOLDEN.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
    known = json.loads(GOLDEN.read_text())
    apart = 0.0
    for case, then in zip(cases, known, strict=True):
        for key in ("y", "kernel"):
            if key in case:
                apart = max(apart, float(numpy.abs(numpy.array(case[key]) - numpy.array(then[key])).max()))
    print(f"{len(cases)} cases, largest difference from the file {apart:.1e}")
    return int(apart > 1e-6)


if __name__ == "__main__":
    sys.exit(main())
