"""What astra, scikit-image, ODL and deepinv make of the same phantoms, and the columns that fastMRI keeps in the middle:
../golden/scanners.json, with --write. Without it, the file is compared with what they make today.

pip install scikit-image==0.26.0 astra-toolbox==2.5.0 odl==1.0.0 deepinv==0.5.0 fastmri==0.3.0
"""

import json
import pathlib
import sys
import warnings

import numpy

GOLDEN = pathlib.Path(__file__).parent.parent / "golden" / "scanners.json"
ANGLES = 9


def phantom(n):
    """Three soft discs that no turn or reflection maps to themselves; the tests make the same."""
    at = (numpy.arange(n) - 0.5 * (n - 1)) / n
    y, x = numpy.meshgrid(at, at, indexing="ij")

    def disc(middle, width, height):
        return height * numpy.exp(-((x - middle[0]) ** 2 + (y - middle[1]) ** 2) / (2 * width**2))

    return disc((-0.12, 0.08), 0.12, 1) + disc((0.15, -0.1), 0.1, 0.7) + disc((0.02, 0.2), 0.09, 0.5)


def even(n, first=0.0):
    return first + numpy.arange(ANGLES) * 180 / ANGLES


def scikit(n, circle):
    from skimage.transform import radon

    return radon(phantom(n), theta=even(n), circle=circle)


def astra(n):
    import astra

    width = int(numpy.ceil(numpy.sqrt(2) * n))
    beams = astra.create_proj_geom("parallel", 1.0, width, numpy.deg2rad(even(n)))
    projector = astra.create_projector("strip", beams, astra.create_vol_geom(n, n))
    return astra.create_sino(phantom(n).astype(numpy.float32), projector)[1]


def odl(n):
    import odl

    width = int(numpy.ceil(numpy.sqrt(2) * n))
    space = odl.uniform_discr([-n / 2] * 2, [n / 2] * 2, (n, n), dtype="float32")
    tomo = odl.applications.tomo
    angles = odl.uniform_partition(0, numpy.pi, ANGLES)
    detectors = odl.uniform_partition(-width / 2, width / 2, width)
    rays = tomo.RayTransform(space, tomo.Parallel2dGeometry(angles, detectors), impl="astra_cpu")
    return rays(space.element(phantom(n).astype(numpy.float32))).asarray()


def deepinv(n, circle):
    import torch
    from deepinv.physics import Tomography

    rays = Tomography(angles=ANGLES, img_width=n, circle=circle, normalize=False, device="cpu")
    return rays.A(torch.tensor(phantom(n), dtype=torch.float32)[None, None])[0, 0].numpy()


def middle_columns():
    """First and number of the columns that fastMRI keeps in the middle at 8 %, for widths of 16 to 640."""
    from fastmri.data.subsample import RandomMaskFunc

    mask = RandomMaskFunc(center_fractions=[0.08], accelerations=[4])
    for width in range(16, 641):
        kept = mask.calculate_center_mask((1, width, 1), round(width * 0.08)).ravel()
        yield [int(kept.argmax()), int(kept.sum())]


def made():
    sinograms = [
        {"from": "scikit-image, circle=True", "side": 16, "y": scikit(16, True)},
        {"from": "scikit-image, circle=False", "side": 16, "y": scikit(16, False)},
        {"from": "scikit-image, circle=False", "side": 18, "y": scikit(18, False)},
        {"from": "scikit-image, circle=True", "side": 17, "y": scikit(17, True)},
        {"from": "astra", "side": 16, "y": astra(16)},
        {"from": "astra", "side": 18, "y": astra(18)},
        {"from": "ODL", "side": 16, "y": odl(16)},
        {"from": "ODL", "side": 17, "y": odl(17)},
        {"from": "deepinv, circle=False", "side": 16, "y": deepinv(16, False)},
        {"from": "deepinv, circle=False", "side": 18, "y": deepinv(18, False)},
        {"from": "deepinv, circle=True", "side": 16, "y": deepinv(16, True)},
    ]
    for case in sinograms:
        case["shape"] = list(case["y"].shape)
        case["y"] = [round(float(v), 5) for v in numpy.asarray(case["y"]).ravel()]
    return {"sinograms": sinograms, "columns": list(middle_columns())}


def main():
    warnings.filterwarnings("ignore")
    found = made()
    if "--write" in sys.argv:
        GOLDEN.write_text(json.dumps(found, separators=(",", ":")) + "\n")
        return
    stored = json.loads(GOLDEN.read_text())
    assert found["columns"] == stored["columns"]
    for ours, theirs in zip(found["sinograms"], stored["sinograms"], strict=True):
        apart = max(abs(a - b) for a, b in zip(ours["y"], theirs["y"], strict=True))
        print(f"{ours['from']}, {ours['side']}: {apart:.1e}")
        assert apart < 1e-3


if __name__ == "__main__":
    main()
