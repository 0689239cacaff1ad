from __future__ import annotations

import base64
import html.parser
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jeoparda_tf import report
from tests import runs
from tests.conftest import need_engine
from tfrecords_tools.errors import DataError, UsageError

CHROMIUM_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--allow-file-access-from-files",
)  # fmt: skip
PICTURES = [
    "learning-curves",
    "f1-against-support",
    "f1-by-class",
    "precision-recall",
    "confusion",
    "signatures",
    "examples",
]
# Asks the page, in a frame as narrow as a phone, what a reader would stumble over.
PHONE = """<iframe src="%s" style="width:400px;height:800px"></iframe><pre id="out"></pre><script>
onload = () => {
  const page = frames[0].document, images = [...page.images];
  document.getElementById("out").textContent = JSON.stringify({
    overflow: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    loaded: images.every(i => i.complete && i.naturalWidth > 0), images: images.length,
    alt: images.every(i => i.alt.length > 20), wide: images.filter(i => i.clientWidth > 400).length,
    cut: [...page.querySelectorAll(".scroll")].filter(e => e.scrollWidth > e.clientWidth).length,
    rows: page.querySelectorAll(".classes tbody tr").length, heading: page.querySelector("h1").textContent,
  });
};
</script>"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Workdir of a run with its report."""
    folder = tmp_path_factory.mktemp("run")
    runs.write(folder / "run", folder / "data")
    report.main(["--workdir", str(folder / "run")])
    return folder / "run"


@pytest.fixture
def unreported(tmp_path: Path) -> Path:
    runs.write(tmp_path / "run", tmp_path / "data", patches=12)
    return tmp_path / "run"


class Parsed(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def parsed(finished: Path) -> Parsed:
    return Parsed((finished / "report" / "index.html").read_text(encoding="utf-8"))


def test_writes_pictures_and_page(finished: Path) -> None:
    folder = finished / "report"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*(f"{name}.png" for name in PICTURES), "index.html"]
    )
    for name in PICTURES:
        image = np.asarray(Image.open(folder / f"{name}.png").convert("L"))
        assert image.std() > 10


def test_page_holds_everything_itself(parsed: Parsed, finished: Path) -> None:
    for tag, attributes in parsed.tags:
        assert tag not in ("script", "iframe", "object", "embed")
        for name in ("src", "href", "srcset", "poster", "action"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    page = (finished / "report" / "index.html").read_text(encoding="utf-8")
    assert "url(" not in page
    assert "@import" not in page
    assert "http" not in page


def test_page_shows_the_pictures_with_words(parsed: Parsed, finished: Path) -> None:
    images = [attributes for tag, attributes in parsed.tags if tag == "img"]
    for attributes, name in zip(images, PICTURES):
        source = attributes["src"] or ""
        assert source.startswith("data:image/png;base64,")
        assert base64.b64decode(source.split(",")[1]) == (finished / "report" / f"{name}.png").read_bytes()
        assert len(attributes["alt"] or "") > 20
    assert len(images) == len(PICTURES)


def test_page_says_what_it_is(parsed: Parsed, finished: Path) -> None:
    text = " ".join(" ".join(parsed.text).split())
    scores = json.loads((finished / "evaluation" / "test.json").read_text())
    for average in scores["averages"].values():
        for value in average.values():
            assert f"{value:.3f}" in text
    for definition in scores["definitions"].values():
        assert definition in text
    for part in (
        "Not BigEarthNet: synthetic sample", "clc43, 43 classes", "300 patches", "resnet50, float32",
        "12: B02 B03", "step 1,700", "2 ranks x 32 patches = 64 a step", "20 of 20",
        "python -m jeoparda_tf.evaluate", "horovodrun -np 2 python -m jeoparda_tf.fit",
    ):  # fmt: skip
        assert part in text
    for row in scores["classes"]:
        assert row["name"] in text


def test_class_names_are_escaped(unreported: Path) -> None:
    path = unreported / "evaluation" / "test.json"
    path.write_text(path.read_text().replace("Rice fields", "<b>Rice & fields</b>"))
    report.main(["--workdir", str(unreported)])
    assert "&lt;b&gt;Rice &amp; fields&lt;/b&gt;" in (unreported / "report" / "index.html").read_text()


def test_chromium_opens_it_as_wide_as_a_phone(finished: Path, tmp_path: Path) -> None:
    chromium = shutil.which("google-chrome") or need_engine("chromium")
    wrapper = tmp_path / "phone.html"
    wrapper.write_text(PHONE % (finished / "report" / "index.html").as_uri())
    command = [
        chromium,
        *CHROMIUM_FLAGS,
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=20000",
        "--dump-dom",
        wrapper.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(done.stdout.split('<pre id="out">')[1].split("</pre>")[0])
    heading = found.pop("heading")
    assert found == {
        "overflow": 0,
        "loaded": True,
        "images": len(PICTURES),
        "alt": True,
        "wide": 0,
        "cut": 0,
        "rows": 43,
    }
    assert "macro F1" in heading


def test_chromium_draws_it(finished: Path, tmp_path: Path) -> None:
    chromium = shutil.which("google-chrome") or need_engine("chromium")
    shot = tmp_path / "page.png"
    command = [
        chromium,
        *CHROMIUM_FLAGS,
        f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=1200,3000",
        f"--screenshot={shot}",
    ]
    subprocess.run(
        [*command, (finished / "report" / "index.html").as_uri()],
        capture_output=True,
        timeout=120,
        check=True,
    )
    image = np.asarray(Image.open(io.BytesIO(shot.read_bytes())).convert("RGB")).astype(int)
    assert image.shape[:2] == (3000, 1200)
    assert image[:, :150].min() > 240  # the text column is in the middle
    blue = (np.abs(image - (0, 114, 178)).sum(axis=2) < 12).sum()
    assert blue > 500


def test_without_the_data_it_says_so(unreported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(unreported.parent / "data")
    report.main(["--workdir", str(unreported)])
    assert "without signatures and example patches" in capsys.readouterr().out
    page = (unreported / "report" / "index.html").read_text()
    assert "Left out:" in page
    assert str(unreported.parent / "data") in page
    assert not (unreported / "report" / "examples.png").exists()
    assert (unreported / "report" / "confusion.png").exists()


def test_not_evaluated_names_the_command(unreported: Path) -> None:
    with pytest.raises(UsageError, match="no evaluation of the val split") as caught:
        report.main(["--workdir", str(unreported), "--split", "val"])
    assert f"python -m jeoparda_tf.evaluate --workdir {unreported} --split val" in str(caught.value)


def test_no_workdir(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not the workdir of a run"):
        report.main(["--workdir", str(tmp_path)])


@pytest.mark.parametrize("damage", ["cut", "text", "shape", "nan", "column", "json", "keys"])
def test_damaged_evaluation(unreported: Path, damage: str) -> None:
    npz = unreported / "evaluation" / "test.npz"
    summary = npz.with_suffix(".json")
    with np.load(npz) as archive:
        arrays = dict(archive)
    if damage == "cut":
        npz.write_bytes(npz.read_bytes()[:200])
    elif damage == "text":
        npz.write_text("no archive")
    elif damage == "json":
        summary.write_text("{")
    elif damage == "keys":
        summary.write_text("{}")
    else:
        changed = {
            "shape": {"scores": arrays["scores"][:-1]},
            "nan": {"scores": np.full_like(arrays["scores"], np.nan)},
            "column": {"labels": arrays["labels"][:, :5]},
        }[damage]
        np.savez_compressed(npz, **{**arrays, **changed})
    with pytest.raises(DataError) as caught:
        report.main(["--workdir", str(unreported)])
    assert caught.value.path == str(summary if damage in ("json", "keys") else npz)
    assert "jeoparda_tf.evaluate" in str(caught.value)


def test_help_and_report_need_no_tensorflow(unreported: Path) -> None:
    code = (
        "import sys; from jeoparda_tf import report\n"
        f"report.main(['--workdir', {str(unreported)!r}])\n"
        "assert 'tensorflow' not in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, capture_output=True)
    code = (
        "import sys; from jeoparda_tf import report\ntry: report.main(['--help'])\nexcept SystemExit: pass\n"
        "assert not {'tensorflow', 'matplotlib', 'numpy', 'pyarrow'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=120, capture_output=True, text=True
    )
    assert "--split" in done.stdout


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable(unreported: Path) -> None:
    unreported.chmod(0o500)
    with pytest.raises(UsageError, match="cannot be written"):
        report.main(["--workdir", str(unreported)])


def test_report_folder_that_is_a_file(unreported: Path) -> None:
    (unreported / "report").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        report.main(["--workdir", str(unreported)])
