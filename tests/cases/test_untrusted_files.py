"""Files that someone else made: what they name stays in their folder, and what they claim to hold is not taken on trust."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sqlite3
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoConfig, CLIPVisionConfig

import maao
from maao.config import make_config
from maao.data.images import reading
from maao.data.images.reading import decoded, read_image
from maao.errors import DataError, ModelError, StoreError
from maao.problems.towers.dual_loading import load_dual_encoder
from maao.problems.towers.text.gguf_header import check_gguf
from maao.problems.towers.text.loading import load_frozen, model_file
from maao.problems.towers.text.sentence import load_sentence_encoder
from maao.runner import resume, run
from maao.store.files import write_durably, write_error
from maao.store.mirror import Mirror
from tests.api.fixtures import llama, model_folder
from tests.commands import ran
from tests.fuzz.targets import clean, gguf_bytes

__all__ = ["llama", "model_folder"]
OUTSIDE = ("../secret", "/etc/passwd", "a/../../secret", "..\\secret", "tensors/../../secret", "nul\0", "..", "C:\\secret", "C:secret")


@pytest.fixture
def secret(tmp_path) -> Path:
    file = tmp_path / "secret"
    file.write_text("of someone else", encoding="utf-8")
    return file


@pytest.fixture
def walked(tmp_path) -> Path:
    values = {"problem": "function", "mentor": {"name": "none"}, "plan": {"rounds": 1, "steps": 1}}
    return run(make_config(values), tmp_path / "runs" / "walked").folder


# -- paths


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_model_reads_no_file_outside_of_its_folder(llama, tmp_path, name):
    folder = tmp_path / "inside" / "model"
    shutil.copytree(llama, folder)
    shutil.copy(llama / "model.safetensors", tmp_path / "inside" / "secret")
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "model-1.safetensors", "model.norm.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(ModelError, match=r"outside of its folder"):
        load_frozen(str(folder))
    with pytest.raises(ModelError, match="outside of its folder"):
        model_file(str(folder), name)
    (folder / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Transformer", "path": name}]), encoding="utf-8")
    with pytest.raises(ModelError, match="outside of its folder"):
        load_sentence_encoder(str(folder))


@pytest.mark.parametrize("name", [*OUTSIDE, "~/secret", "beside"])
@pytest.mark.parametrize("tower", ["vision", "text"])
def test_a_pair_reads_no_tower_outside_of_its_folder(tmp_path, monkeypatch, name, tower):
    """Neither what its name leads to from its folder, nor from where the process stands, nor in somebody's home."""
    folder = tmp_path / "inside" / "pair"
    for place in (folder, tmp_path / "secret", tmp_path / "beside"):
        place.mkdir(parents=True)
        CLIPVisionConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32).save_pretrained(
            place
        )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    names = {"vision": ".", "text": "org/model", tower: name}
    about = {key: {"name": held, "pooling": "mean"} for key, held in names.items()}
    image = {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
    (folder / "dual_encoder.json").write_text(json.dumps({**about, "image": image, "logit_scale": 1.0}))
    save_file({"image_projection.weight": torch.zeros(2, 2)}, folder / "model.safetensors")
    read = []
    monkeypatch.setattr(AutoConfig, "from_pretrained", lambda place, **_: read.append(place))
    with pytest.raises(ModelError, match="outside of its folder: it is not read"):
        load_dual_encoder(str(folder))
    assert not read


@pytest.mark.parametrize("name", [*OUTSIDE, "run.sqlite/x", ""])
def test_a_mirror_writes_no_file_outside_of_the_run(walked, tmp_path, secret, name):
    mirror = Mirror(str(tmp_path / "mirror"), "walked")
    mirror.push(walked)
    (state,) = (tmp_path / "mirror/walked/states").iterdir()
    held = json.loads(state.read_text())
    state.write_text(json.dumps({name: next(iter(held.values())), **held}))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StoreError):
        mirror.pull(tmp_path / "pulled" / "walked")
    assert secret.read_text() == "of someone else" and not (tmp_path / "pulled" / "walked").exists()
    assert [path for path in sorted(tmp_path.rglob("*")) if path.name != "pulled"] == before


def test_a_mirror_takes_no_object_from_elsewhere(walked, tmp_path, secret):
    mirror = Mirror(str(tmp_path / "mirror"), "walked")
    mirror.push(walked)
    (state,) = (tmp_path / "mirror/walked/states").iterdir()
    held = json.loads(state.read_text())
    for digest in ("../../../secret", "../states/00000001.json", hashlib.sha256(b"x").hexdigest()):
        state.write_text(json.dumps({**held, "notes.txt": digest}))
        with pytest.raises(StoreError, match=r"no run|damaged"):
            mirror.pull(tmp_path / "pulled" / "walked")


def test_a_link_in_a_run_folder_is_not_copied_to_a_mirror(walked, tmp_path, secret):
    (walked / "more").symlink_to(secret)
    with pytest.raises(StoreError, match="more is a link"):
        Mirror(str(tmp_path / "mirror"), "walked").push(walked)
    assert not any(b"someone else" in file.read_bytes() for file in (tmp_path / "mirror").rglob("*") if file.is_file())


@pytest.mark.parametrize("name", ["tensors", "run.sqlite", "run.lock"])
def test_a_run_writes_through_no_link(walked, tmp_path, name):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if (walked / name).exists():
        shutil.move(walked / name, elsewhere / name)
    else:
        (elsewhere / name).write_text("held")
    (walked / name).symlink_to(elsewhere / name)
    (elsewhere / "mine.tmp").write_text("mine")
    with pytest.raises(StoreError, match=rf"{name} is a link"):
        maao.store.run.RunFolder.open(walked, serializer=None, write=True)  # type: ignore[arg-type]
    assert (elsewhere / "mine.tmp").read_text() == "mine"


def test_a_file_is_written_through_no_link_that_stands_in_its_way(tmp_path, secret):
    file = tmp_path / "held.json"
    file.with_name("held.json.tmp").symlink_to(secret)
    write_durably(file, b"new")
    assert file.read_bytes() == b"new" and secret.read_text() == "of someone else"
    file.unlink()
    file.symlink_to(secret)
    write_durably(file, b"again")
    assert not file.is_symlink() and secret.read_text() == "of someone else"


def test_what_asks_why_a_database_was_not_opened_writes_through_no_link(tmp_path, secret):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.sqlite.tmp").symlink_to(secret)
    hidden = sqlite3.OperationalError("disk I/O error")
    hidden.sqlite_errorcode = sqlite3.SQLITE_IOERR
    assert isinstance(write_error(tmp_path / "run", hidden, safe="", then=""), StoreError)
    assert secret.read_text() == "of someone else" and (tmp_path / "run" / "run.sqlite.tmp").is_symlink()


def test_a_reply_that_is_a_link_is_not_read(walked, tmp_path, secret, monkeypatch, capsys):
    (tmp_path / "replies").mkdir()
    (tmp_path / "replies" / "c1-abc.txt").symlink_to(secret)
    done = ran(monkeypatch, capsys, "requests", "import", walked, tmp_path / "replies")
    assert done.code == 1 and "is a link" in done.err and "someone else" not in done.told()


def test_a_run_that_was_copied_goes_on(walked, tmp_path):
    shutil.copytree(walked, tmp_path / "copy")
    assert resume(tmp_path / "copy").digest == maao.load(walked).digest


# -- pictures


def png(width: int, height: int) -> bytes:
    """A PNG of some hundred bytes that claims to be of any size, and is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head, rows = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)), chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + head + rows + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(30_000, 30_000), (2**31 - 1, 1), (1, 2**31 - 1), (10_000, 9_000), (100_000, 100_000)])
@pytest.mark.parametrize("limit", [None, Image.MAX_IMAGE_PIXELS])
def test_a_picture_that_would_take_all_memory_is_refused(monkeypatch, width, height, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(DataError, match=r"too many pixels|is broken"):
        decoded(png(width, height), "a.png")


def test_a_picture_file_has_a_most_size(monkeypatch, tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.bmp")
    monkeypatch.setattr(reading, "MOST_BYTES", 100)
    with pytest.raises(DataError, match="Make it smaller"):
        read_image(tmp_path / "a.bmp")


def test_of_many_frames_one_is_read(monkeypatch):
    out = io.BytesIO()
    frames = [Image.new("L", (2, 2), i % 256) for i in range(600)]
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    loaded = []
    load = Image.Image.load
    monkeypatch.setattr(Image.Image, "load", lambda self: loaded.append(self) or load(self))
    found = decoded(out.getvalue(), "a.gif")
    assert found.image.size == (2, 2) and "the first of several pictures in one file" in found.notes and len(loaded) < 20


def test_words_packed_in_a_picture_stay_packed():
    bomb = zlib.compress(bytes(64 * 2**20), 9)
    data = b"a\0\0" + bomb
    chunk = struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    whole = png(3, 3)
    with pytest.raises(DataError, match="is broken"):
        decoded(whole[:33] + chunk + whole[33:], "a.png")


# -- GGUF


@pytest.fixture(scope="module")
def gguf_file():
    yield gguf_bytes()
    clean()


def changed(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) == 1
    return data.replace(old, new)


LONG = (2**62).to_bytes(8, "little")
THREE = b"\x08\0\0\0\3\0\0\0\0\0\0\0\3"  # the beginning of a list of three texts
COUNT = b"\x11\0\0\0\0\0\0\0llama.block_count\4\0\0\0\1\0\0\0"
CLAIMS = {
    "no GGUF": lambda data: b"PK\3\4" + data[4:],
    "another version": lambda data: data[:4] + b"\x09" + data[5:],
    "tensors without end": lambda data: data[:8] + LONG + data[16:],
    "settings without end": lambda data: data[:16] + LONG + data[24:],
    "a name without end": lambda data: data[:24] + LONG + data[32:],
    "a text without end": lambda data: changed(data, b"\4\0\0\0\0\0\0\0tiny", LONG + b"tiny"),
    "a list without end": lambda data: changed(data, THREE, THREE[:4] + LONG + THREE[-1:]),
    "an unknown type": lambda data: changed(data, b"general.name\x08", b"general.name\x63"),
    "layers without end": lambda data: changed(data, b"block_count\4\0\0\0\1\0", b"block_count\4\0\0\0\xff\xff"),
    "a width that no tensor has": lambda data: changed(data, b"embedding_length\4\0\0\0\4\0", b"embedding_length\4\0\0\0\x0d\0"),
    "a layer that no tensor has": lambda data: changed(data, COUNT, b"\x19\0\0\0\0\0\0\0llama.feed_forward_length\4\0\0\0\4\0\0\0"),
    "a width without end": lambda data: changed(data, b"embedding_length\4\0\0\0\4\0\0\0", b"embedding_length\4\0\0\0\xff\xff\xff\x7f"),
    "weights without end": lambda data: changed(data, b"token_embd.weight\2\0\0\0\4\0\0\0\0\0\0\0", b"token_embd.weight\2\0\0\0" + LONG),
    "a tensor of no bounds": lambda data: changed(data, b"token_embd.weight\2", b"token_embd.weight\x7f"),
    "cut off": lambda data: data[:60],
    "empty": lambda data: b"",
}


def test_a_whole_gguf_file_is_fine(gguf_file, tmp_path):
    (tmp_path / "a.gguf").write_bytes(gguf_file)
    check_gguf(tmp_path / "a.gguf")


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_a_gguf_file_that_claims_more_than_it_holds_is_refused(gguf_file, tmp_path, claim):
    (tmp_path / "a.gguf").write_bytes(claim(gguf_file))
    with pytest.raises(ModelError, match=r"a\.gguf is no GGUF file that can be read"):
        check_gguf(tmp_path / "a.gguf")


def test_the_numbers_of_a_gguf_file_are_where_they_are_looked_for(gguf_file):
    assert np.frombuffer(gguf_file[8:24], "<u8").tolist() == [2, 7]
