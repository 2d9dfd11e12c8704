# SPDX-License-Identifier: Apache-2.0
"""Image files of all kinds become the pixels that are seen; others are refused."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from deepncm_tf.data import image_files

RGB = np.random.default_rng(0).integers(256, size=(6, 5, 3)).astype("uint8")
GRAY = RGB[..., 0]
SIZE = (6, 5)


def saved(path, image, **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image.save(path, **options)
    return path


def read(path, size=SIZE):
    image = image_files.read(path, size)
    assert image.dtype == np.uint8
    assert image.shape == (*size, 3)
    return image


def repeated(gray):
    return np.repeat(np.asarray(gray, "uint8")[..., None], 3, axis=-1)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp"])
def test_pixels_are_kept(tmp_path, suffix):
    options = {"lossless": True} if suffix == ".webp" else {}
    path = saved(tmp_path / f"image{suffix}", RGB, **options)
    np.testing.assert_array_equal(read(path), RGB)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    stored = {  # as EXIF numbers them
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.transpose(1, 0, 2),
        6: np.rot90(RGB, 1),  # shown after a quarter turn clockwise
        7: RGB[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(RGB, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = np.ascontiguousarray(stored[orientation])
    path = saved(tmp_path / "image.png", image, exif=exif)
    np.testing.assert_array_equal(read(path), RGB)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".gif"])
def test_palettes(tmp_path, suffix):
    image = Image.fromarray(RGB).quantize(8)
    path = saved(tmp_path / f"image{suffix}", image)
    with Image.open(path) as there:
        assert there.mode == "P"
    np.testing.assert_array_equal(read(path), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_one_bit(tmp_path, suffix):
    path = saved(tmp_path / f"image{suffix}", Image.fromarray(GRAY > 127))
    np.testing.assert_array_equal(read(path), repeated(np.where(GRAY > 127, 255, 0)))


def test_sixteen_bits(tmp_path):
    path = saved(tmp_path / "image.png", GRAY.astype("uint16") * 257)
    np.testing.assert_array_equal(read(path), repeated(GRAY))


def test_cmyk(tmp_path):
    image = Image.new("CMYK", SIZE[::-1], (0, 255, 255, 0))  # red
    path = saved(tmp_path / "image.jpg", image, quality=100)
    np.testing.assert_allclose(read(path).astype(int), np.full((*SIZE, 3), (255, 0, 0)), 3)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_alpha_is_over_white(tmp_path, mode, suffix):
    alpha = np.resize([0, 51, 255], SIZE).astype("uint8")
    color = RGB if mode == "RGBA" else repeated(GRAY)
    image = Image.fromarray(color if mode == "RGBA" else GRAY)
    image.putalpha(Image.fromarray(alpha))
    assert image.mode == mode
    options = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    path = saved(tmp_path / f"image{suffix}", image, **options)
    part = alpha[..., None] / 255
    np.testing.assert_allclose(read(path), color * part + 255 * (1 - part), atol=1)


@pytest.mark.parametrize("kind", ["P", "L", "1", "I;16"])
def test_a_transparent_color_is_white(tmp_path, kind):
    image = {
        "P": Image.fromarray(GRAY % 4).convert("P"),
        "L": Image.fromarray(GRAY % 4),
        "1": Image.fromarray(GRAY % 4 == 0),
        "I;16": Image.fromarray((GRAY % 4).astype("uint16") * 257),
    }[kind]
    if kind == "P":
        image.putpalette([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
    value = {"I;16": 257, "1": 0}.get(kind, 1)
    path = saved(tmp_path / "image.png", image, transparency=value)
    expected = {"1": np.full(SIZE, 255)}.get(kind, np.where(GRAY % 4 == 1, 255, GRAY % 4))
    np.testing.assert_array_equal(read(path), repeated(expected))


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "mpo"])
def test_the_first_of_several_pictures(tmp_path, kind):
    first, second = (Image.new("RGB", SIZE[::-1], name) for name in ("red", "lime"))
    path = tmp_path / f"image.{kind}"
    saved(path, first, save_all=True, append_images=[second])
    with Image.open(path) as there:
        assert there.n_frames == 2
    np.testing.assert_allclose(read(path), np.full((*SIZE, 3), (255, 0, 0)), atol=3)


@pytest.mark.parametrize("shape", [(40, 61), (7, 9), (100, 20)])
def test_resizing_is_that_of_tensorflow_with_antialiasing(tmp_path, shape):
    import tensorflow as tf

    image = np.random.default_rng(1).integers(256, size=(*shape, 3)).astype("uint8")
    path = saved(tmp_path / "image.png", image)
    expected = tf.image.resize(image, (32, 32), antialias=True)
    np.testing.assert_allclose(read(path, (32, 32)), expected, atol=1.01)


@pytest.mark.bad_input
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".gif", ".webp"])
def test_files_that_are_cut(tmp_path, suffix):
    big = np.random.default_rng(2).integers(256, size=(80, 80, 3)).astype("uint8")
    whole = saved(tmp_path / f"whole{suffix}", big).read_bytes()
    path = tmp_path / f"cut{suffix}"
    for share in (0, 0.01, 0.5, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ValueError, match=rf"must be whole .*Received: .*cut\{suffix}"):
            image_files.read(path, SIZE)


@pytest.mark.bad_input
def test_damaged_pictures_are_read_or_refused(tmp_path):
    rng = np.random.default_rng(3)
    refused = []
    for suffix in (".png", ".jpg", ".bmp", ".gif", ".webp"):
        path = tmp_path / f"image{suffix}"
        whole = saved(path, RGB, exif=Image.Exif()).read_bytes()
        for _ in range(30):
            data = bytearray(whole)
            for place in rng.integers(len(data), size=4):
                data[place] = rng.integers(256)
            path.write_bytes(data)
            try:
                read(path)
            except ValueError as error:
                refused.append((path, str(error)))
    assert 30 < len(refused) < 150
    for path, message in refused:
        assert "\n" not in message
        assert f"Received: {path}" in message


@pytest.mark.bad_input
@pytest.mark.parametrize("times", [1.5, 3])
def test_a_decompression_bomb(tmp_path, monkeypatch, times):
    path = saved(tmp_path / "image.png", RGB)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(30 / times))
    with pytest.raises(ValueError, match=r"exceeds limit .*Received: .*image\.png"):
        image_files.read(path, SIZE)


@pytest.mark.bad_input
def test_a_header_that_claims_billions_of_pixels(tmp_path):
    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))
    )
    (tmp_path / "image.png").write_bytes(data + chunk(b"IEND", b""))
    with pytest.raises(ValueError, match="decompression bomb"):
        image_files.read(tmp_path / "image.png", SIZE)


@pytest.mark.bad_input
def test_other_formats_are_refused(tmp_path):
    """Pillow reads many more, some by programs outside, such as Ghostscript."""
    data = io.BytesIO()
    Image.fromarray(RGB).save(data, "EPS")
    (tmp_path / "image.png").write_bytes(data.getvalue())
    with pytest.raises(ValueError, match=r"must be whole .*Received: .*image\.png"):
        image_files.read(tmp_path / "image.png", SIZE)


def test_files_are_found(tmp_path):
    for name in ("b.PNG", "a.webp", "c.txt", "._b.PNG"):
        (tmp_path / name).touch()
    found = image_files.find([tmp_path, tmp_path / "b.PNG"])
    assert [path.name for path in found] == ["a.webp", "b.PNG", "b.PNG"]
    with pytest.raises(ValueError, match=r"--images must be image files .*c\.txt"):
        image_files.find([tmp_path / "c.txt"])
    hidden = tmp_path / "._b.PNG"
    assert image_files.find([hidden]) == [hidden]  # asked for by its name


def test_files_in_folders_within_and_links_that_lead_nowhere(tmp_path):
    (tmp_path / "2024" / ".trash").mkdir(parents=True)
    for name in ("z.png", "2024/deep.jpg", "2024/notes.txt", "2024/.trash/old.png"):
        (tmp_path / name).touch()
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    found = image_files.find([tmp_path])
    names = [str(path.relative_to(tmp_path)) for path in found]
    assert names == ["2024/deep.jpg", "gone.jpg", "z.png"]
    with pytest.raises(ValueError, match=r"Received: .*gone\.jpg"):
        image_files.read(found[1], SIZE)
    with pytest.raises(ValueError, match=r"PICTURES must be image files .*gone\.jpg"):
        image_files.find([found[1]], "PICTURES")  # named by itself
    deep, other = tmp_path / "2024" / "deep.jpg", tmp_path / "deep.jpg"
    assert image_files.names_of([deep, found[2], other]) == [str(deep), "z.png", str(other)]


def test_each_folder_is_looked_at_once_and_what_cannot_be_opened_is_named(
    tmp_path, monkeypatch
):
    for name in ("2024", "closed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").touch()
    (tmp_path / "2024" / "up").symlink_to(tmp_path)
    (tmp_path / "0-latest").symlink_to("2024")
    entries = image_files.entries

    def some_entries(folder):
        if folder.name == "closed":
            raise PermissionError
        return entries(folder)

    monkeypatch.setattr(image_files, "entries", some_entries)
    found = image_files.find([tmp_path])
    assert found == [tmp_path / "2024" / "a.png", tmp_path / "closed"]
    with pytest.raises(ValueError, match=r"Received: .*closed"):
        image_files.read(found[1], SIZE)


def test_it_does_without_tensorflow():
    code = "import sys, deepncm_tf.data.image_files; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
