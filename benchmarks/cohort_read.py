"""Reading a prepared scan against nibabel on .nii.gz and against MONAI's PersistentDataset.

Run: python benchmarks/cohort_read.py [--out cohort_read.json] [--work DIR] [--tiny]

All in this process, in turn, on one thread, from the system's file cache. Times are CPU seconds.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from big_scans import SHAPE, make_scan
from claims import alternate, claim, one_thread, parser, publish
from numcodecs import blosc

from prepare import PERCENTILES, SIZE, monai_chain
from volta3d.cohort.arrays import chunk_path, decode
from volta3d.cohort.contract import Contract
from volta3d.cohort.store import VOLUMES, write_cohort
from volta3d.prepare.volume import prepare_scan


def main() -> None:
    """Measure everything and print it as JSON."""
    from monai.data import PersistentDataset

    arguments = parser(__doc__).parse_args()
    one_thread()
    blosc.set_nthreads(1)
    warnings.simplefilter("ignore")  # of the other side
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        shape = (48, 48, 36) if arguments.tiny else SHAPE
        size = 24 if arguments.tiny else SIZE
        scan = make_scan(work / f"head-{shape[0]}.nii.gz", shape)
        contract = Contract(size=size, percentiles=PERCENTILES)
        prepared = prepare_scan(scan, contract)
        cohort = write_cohort(
            work / "read", contract, [prepared.volume], pd.DataFrame({"scan_id": ["a"]})
        )
        small = work / "prepared.nii.gz"
        nib.save(nib.Nifti1Image(prepared.volume, prepared.affine), small)
        kept = PersistentDataset([str(scan)], monai_chain(size), cache_dir=work / "persistent")
        packed = chunk_path(cohort.path / VOLUMES, 0).read_bytes()[:-4]  # its checksum follows
        cube = cohort.stored(0)
        times = alternate(
            {
                "cohort": lambda: cohort.volume(0),
                "raw .nii.gz": lambda: nib.load(scan).get_fdata(dtype=np.float32),
                "prepared .nii.gz": lambda: nib.load(small).get_fdata(dtype=np.float32),
                "persistent": lambda: kept[0],
                "unpack": lambda: blosc.decompress(packed, cube),
                "widen": lambda: decode(cube, contract),
            },
            1 if arguments.tiny else 21,
        )
        ours = times["cohort"]["cpu"]
        stored = chunk_path(cohort.path / VOLUMES, 0).stat().st_size
        cached = next((work / "persistent").iterdir()).stat().st_size
        against = {name: times[name]["cpu"] / ours for name in times}
        claims = [
            claim(
                "read one prepared scan against nibabel on the scan's .nii.gz, CPU seconds",
                ours, times["raw .nii.gz"]["cpu"], against["raw .nii.gz"],
                "at least 20 times", against["raw .nii.gz"] >= 20,
            ),
            claim(
                "the same against nibabel on the prepared volume as float32 .nii.gz",
                ours, times["prepared .nii.gz"]["cpu"], against["prepared .nii.gz"],
                "at least 20 times", against["prepared .nii.gz"] >= 20,
            ),
            claim(
                "read one prepared scan against MONAI's PersistentDataset, CPU seconds",
                ours, times["persistent"]["cpu"], against["persistent"],
                "not slower", against["persistent"] >= 1,
            ),
            claim(
                "bytes on disk against MONAI's PersistentDataset",
                stored, cached, stored / cached, "a quarter", stored <= cached / 4,
            ),
        ]  # fmt: skip
        unpack, widen = (1e3 * times[name]["cpu"] for name in ("unpack", "widen"))
        reason = (
            f"The floor of reading what is stored: unpacking takes {unpack:.2f} ms and widening to "
            f"fp32 {widen:.2f} ms of the {1e3 * ours:.2f} ms; PersistentDataset reads fp32 as it "
            "lies, so a packed store can't be quicker than its file cache. This scan is a phantom, "
            "whose noise hardly packs; heads in black air pack better. Training reads each scan "
            "once where the cohort fits into memory, and ahead of the step where it doesn't."
        )
        publish("cohort_read", claims, arguments.out, seconds=times, reason=reason)


if __name__ == "__main__":
    main()
