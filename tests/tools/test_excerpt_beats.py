"""The tool that cuts annotated beats out of their package: its reader, on files made by hand."""

import hashlib
import io
import lzma
import sys
import tarfile

import excerpt_beats
import numpy as np
import pytest

from convexlib.datasets import manifest

SAMPLES = np.array([[0, 1], [2047, -2048], [-1, 995], [1024, -300]])
HEADER = (
    "100 2 360 4\n100.dat 212 200 11 1024 0 {} 0 MLII\n100.dat 212 200 11 1024 1 {} 0 V5\n# 69 M"
)


def packed(samples):
    """Format 212 from its definition: bits of both samples, the second one's upper half first."""
    bits = ""
    for first, second in samples % 4096:
        a, b = f"{first:012b}", f"{second:012b}"
        bits += a[4:] + b[:4] + a[:4] + b[4:]
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def word(code, step):
    return (code << 10 | step).to_bytes(2, "little")


def test_samples_of_twelve_bits_are_unpacked():
    header = HEADER.format(3070, -1352)
    np.testing.assert_array_equal(excerpt_beats.read_212(packed(SAMPLES), header), SAMPLES)


def test_a_signal_that_misses_its_checksum_is_refused():
    with pytest.raises(SystemExit, match=r"checksums \[3070, -1352\]; its header says 4 and"):
        excerpt_beats.read_212(packed(SAMPLES), HEADER.format(3070, -1353))


def test_checksums_have_sixteen_bits():
    samples = np.full((4, 2), 2047) * np.array([1, -1])
    header = HEADER.format(8188, -8188).replace(" 4\n", " 36\n", 1)
    header = header.replace("8188", str(9 * 8188 - 65536), 1).replace(
        "-8188", str(65536 - 73692), 1
    )
    assert len(excerpt_beats.read_212(packed(np.tile(samples, (9, 1))), header)) == 36


def test_annotations_are_read_with_their_gaps_and_notes():
    content = (
        word(28, 18) + word(63, 3) + b"(N\0\0" + word(1, 59) + word(61, 1) + word(62, 0)
        + word(59, 0) + (2).to_bytes(2, "little") + (5).to_bytes(2, "little") + word(5, 4)
        + word(60, 2) + word(8, 1023) + word(0, 0) + word(1, 1)
    )  # fmt: skip
    far = 18 + 59 + (2 << 16) + 5 + 4
    assert excerpt_beats.read_annotations(content) == [(18, 28), (77, 1), (far, 5), (far + 1023, 8)]


def test_a_gap_may_be_negative():
    content = word(1, 100) + word(59, 0) + b"\xff\xff\xf6\xff" + word(5, 30) + word(0, 0)
    assert excerpt_beats.read_annotations(content) == [(100, 1), (120, 5)]


def archive(samples, marks):
    """A package that holds a record of these samples and annotations."""
    sums = (samples.sum(axis=0) + 2**15) % 2**16 - 2**15
    header = HEADER.format(*sums).replace(" 4\n", f" {len(samples)}\n", 1)
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as package:
        files = {"hea": header.encode(), "dat": packed(samples), "atr": marks}
        for kind, content in files.items():
            info = tarfile.TarInfo(f"{excerpt_beats.FOLDER}/100.{kind}")
            info.size = len(content)
            package.addfile(info, io.BytesIO(content))
    return raw.getvalue()


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """A package, of which the tool takes samples 2 and 3, and a manifest that knows them."""
    raw = archive(SAMPLES, word(1, 1) + word(5, 1) + word(8, 2) + word(0, 0))
    (tmp_path / "made-up.tar.gz").write_bytes(raw)
    text = b"count,beat\n-1,V\n1024,\n"
    (tmp_path / "data").mkdir()
    known = hashlib.sha256(text).hexdigest()
    entry = f'[ecg_beats]\nsha256 = "{known}"\nstored = "beats.csv.xz"\n'
    (tmp_path / "data" / "manifest.toml").write_text(entry)
    monkeypatch.setattr(excerpt_beats, "ROOT", tmp_path)
    monkeypatch.setattr(excerpt_beats, "ARCHIVE", hashlib.sha256(raw).hexdigest())
    monkeypatch.setattr(excerpt_beats, "START", 2)
    monkeypatch.setattr(excerpt_beats, "STOP", 4)
    return tmp_path, text


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["excerpt_beats.py", *map(str, arguments)])
    return excerpt_beats.main()


def test_an_excerpt_is_written_where_asked(made_up, monkeypatch):
    folder, text = made_up
    assert run(monkeypatch, folder / "made-up.tar.gz") == 0
    assert not (folder / "beats.csv.xz").exists()
    assert run(monkeypatch, folder / "made-up.tar.gz", folder) == 0
    assert lzma.decompress((folder / "beats.csv.xz").read_bytes()) == text


def test_another_excerpt_is_not_written(made_up, monkeypatch, capsys):
    folder, _ = made_up
    monkeypatch.setattr(excerpt_beats, "START", 1)
    assert run(monkeypatch, folder / "made-up.tar.gz", folder) == 1
    assert "the manifest" in capsys.readouterr().out
    assert not (folder / "beats.csv.xz").exists()


def test_another_archive_is_refused(made_up, monkeypatch):
    folder, _ = made_up
    (folder / "made-up.tar.gz").write_bytes(b"something else")
    with pytest.raises(SystemExit, match="is not the archive of sha256"):
        run(monkeypatch, folder / "made-up.tar.gz")


def test_the_file_that_ships_is_the_one_the_tool_names():
    entry = manifest.catalogue()["ecg_beats"]
    assert entry.ships
    assert entry.shape == (excerpt_beats.STOP - excerpt_beats.START, 2)
    stored = (manifest.data_dir() / entry.stored).read_bytes()
    assert len(stored) < 60_000
    assert hashlib.sha256(stored).hexdigest() == entry.stored_sha256
