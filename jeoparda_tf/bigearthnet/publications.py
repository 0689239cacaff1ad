"""What to cite for each version of the archive, and its licence: they travel with the shards."""

from __future__ import annotations

# https://bigearth.net: both versions are under the Community Data License Agreement, permissive, version 1.0.
LICENSE = "CDLA-Permissive-1.0"

CITATIONS = {
    "v1": "G. Sumbul, M. Charfuelan, B. Demir, V. Markl: BigEarthNet: A Large-Scale Benchmark Archive for Remote "
    "Sensing Image Understanding. IGARSS 2019, 5901-5904. doi:10.1109/IGARSS.2019.8900532",
    "v2": "K. N. Clasen, L. Hackel, T. Burgert, G. Sumbul, B. Demir, V. Markl: reBEN: Refined BigEarthNet Dataset "
    "for Remote Sensing Image Analysis. 2024. arXiv:2407.03653",
}


def publication(layout: str, origin: str) -> dict[str, str]:
    """Returns citation and licence of an archive's layout; none for pixels that are not BigEarthNet's."""
    layout = "v1" if layout == "tfrecord" else layout
    if origin != "BigEarthNet" or layout not in CITATIONS:
        return {}
    return {"citation": CITATIONS[layout], "license": LICENSE}
