"""Importing weights of other programs: formats, refused files, and matching of tensors."""

import argparse
import gzip
import json
import os
import pickle
import re
import shutil
import struct
import sys
import tarfile
import time
import warnings
import zipfile

import numpy as np
import pytest
import torch
from monai.networks.nets import DynUNet as MonaiDynUNet
from safetensors.torch import load_file, save_file
from torch import nn

import command_line
from napari_sslseg.core.common.errors import CheckpointError, ConfigError, SslsegError, StorageError
from napari_sslseg.core.demo.phantom.patient import write_dataset
from napari_sslseg.core.networks.build import make_network
from napari_sslseg.core.runs.weights.checkpoints import transfer
from napari_sslseg.core.runs.weights.foreign import read_foreign
from napari_sslseg.core.runs.weights.import_weights import import_weights
from napari_sslseg.core.runs.weights.match_names import NORMALISED, match_tensors
from napari_sslseg.core.samples.build import default_preprocessing
from napari_sslseg.core.scans.matching.pair_scans import pair_scans
from napari_sslseg.core.settings.networks import DynUNet2dNetwork, DynUNet3dNetwork, Network
from napari_sslseg.core.settings.stages import FinetuneSettings
from napari_sslseg.core.settings.training import Training
from napari_sslseg.core.stages.finetune import finetune
from napari_sslseg.core.stages.init_from import load_start, resolve_settings

WIDTHS = (8, 16, 32, 48)
TINY = Network.preset("tiny")


def monai(dimensions, residual=False, **options):
    torch.manual_seed(5)
    depth = len(WIDTHS)
    return MonaiDynUNet(
        dimensions, 1, 3, [3] * depth, [1] + [2] * (depth - 1), [2] * (depth - 1),
        filters=WIDTHS, res_block=residual, **options,
    ).eval()  # fmt: skip


def shapes(state):
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("supervised", [False, True])
def test_an_imported_monai_dynunet_gives_the_same_output(dimensions, residual, supervised):
    kind = DynUNet2dNetwork if dimensions == 2 else DynUNet3dNetwork
    settings = kind(widths=WIDTHS, residual=residual)
    theirs = monai(dimensions, residual, deep_supervision=supervised, deep_supr_num=2)
    ours = make_network(settings, 1, 3).eval()
    state, wanted = theirs.state_dict(), ours.state_dict()
    found = match_tensors(shapes(state), shapes(wanted), settings)
    assert set(found.copied) == set(wanted)
    named = {source for source, _ in found.copied.values()} | set(found.skipped)
    assert named == set(state)
    assert not found.mismatched
    ours.load_state_dict({name: state[source] for name, (source, _) in found.copied.items()})
    images = torch.randn(1, 1, *(32,) * dimensions)
    with torch.inference_mode():
        assert torch.allclose(theirs(images), ours(images), atol=1e-5)


def test_a_network_started_from_an_imported_dynunet_has_its_features(tmp_path):
    theirs = monai(2)
    torch.save({"state_dict": theirs.state_dict(), "epoch": 3}, tmp_path / "theirs.pt")
    settings = DynUNet2dNetwork(widths=WIDTHS)
    run = import_weights(tmp_path / "theirs.pt", network=settings, out=tmp_path / "run")
    taken = resolve_settings(FinetuneSettings(), run, None, "MR")
    assert taken.network == settings
    ours = make_network(settings, 1, 5).eval()
    list(load_start(run, ours, "encoder+decoder"))
    images = torch.randn(2, 1, 48, 32)
    with torch.inference_mode():
        features = ours.decoder(ours.encoder(images))
        scores = theirs.output_block(features)
        assert torch.allclose(theirs(images), scores, atol=1e-5)


def nnunet_names(state):
    """Rename the state dict of our DynUNet as in nnU-Net, and add the biases that nnU-Net has."""
    found = {}
    for name, tensor in state.items():
        if name.startswith("output."):
            continue
        part, _, level, *inner = name.split(".")
        if inner[0] == "transp_conv":
            found[f"decoder.transpconvs.{level}.weight"] = tensor
            found[f"decoder.transpconvs.{level}.bias"] = torch.zeros(tensor.shape[1])
            continue
        block = inner[-3] if inner[-2] == "conv" else inner[-2]
        kind, number = block[:-1], int(block[-1]) - 1
        stage = f"{part}.stages.{level}{'.0' if part == 'encoder' else ''}.convs.{number}"
        found[f"{stage}.{kind}.{inner[-1]}"] = tensor
        found[f"{stage}.all_modules.{int(kind == 'norm')}.{inner[-1]}"] = tensor
        if kind == "conv":
            found[f"{stage}.conv.bias"] = torch.randn(tensor.shape[0])
    found |= {f"decoder.{name}": t for name, t in found.items() if name.startswith("encoder.")}
    return found | {"decoder.seg_layers.0.weight": torch.zeros(3, 8, 1, 1)}


def test_a_checkpoint_of_nnunet_is_unwrapped_and_matched(tmp_path):
    settings = DynUNet2dNetwork(widths=WIDTHS)
    ours = make_network(settings, 1, 3)
    checkpoint = {
        "network_weights": nnunet_names(ours.state_dict()),
        "optimizer_state": {"state": {}},
        "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.25)]},
        "_best_ema": np.float64(0.5),
        "init_args": {"plans": {"patch_size": [64, 64]}, "device": torch.device("cpu")},
        "trainer_name": "nnUNetTrainer",
    }
    torch.save(checkpoint, tmp_path / "checkpoint_final.pth")
    run = import_weights(tmp_path / "checkpoint_final.pth", network=settings, out=tmp_path / "run")
    stored = load_file(run.weights)
    for name, tensor in ours.state_dict().items():
        assert name.startswith("output.") or torch.equal(stored[name], tensor)
    transferred = run.record["transfer"]
    assert not transferred["missing"]
    reasons = {item["reason"] for item in transferred["skipped"]}
    assert NORMALISED in reasons
    named = {item["name"] for key in ("copied", "skipped") for item in transferred[key]}
    assert named == set(checkpoint["network_weights"])


@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "model.module."]
)
@pytest.mark.parametrize("nest", [None, "state_dict", "model", "model_state_dict"])
def test_usual_nestings_are_unwrapped(tmp_path, prefix, nest):
    state = make_network(TINY, 1, 2).state_dict()
    wrapped = {prefix + name: tensor for name, tensor in state.items()}
    torch.save({nest: wrapped, "epoch": 7} if nest else wrapped, tmp_path / "a.pth")
    found = read_foreign(tmp_path / "a.pth")
    assert list(found.tensors) == list(state)
    assert found.ordered


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_weights_of_our_networks_are_imported_as_float32(tmp_path, legacy, dtype):
    state = {n: t.to(dtype) for n, t in make_network(TINY, 1, 2).state_dict().items()}
    torch.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    run = import_weights(tmp_path / "a.pt", network="tiny", out=tmp_path / "run")
    stored = load_file(run.weights)
    assert not {name for name in stored if name.startswith("output.")}
    for name, tensor in stored.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, state[name].float())


def test_renames_are_applied_to_prefixes(tmp_path):
    state = make_network(TINY, 1, 2).state_dict()
    theirs = {
        name.replace("encoder.levels", "backbone.stage").replace("decoder.", "up."): tensor
        for name, tensor in state.items()
    }
    save_file(theirs, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="names such as"):
        import_weights(tmp_path / "a.safetensors", network="tiny", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    run = import_weights(
        tmp_path / "a.safetensors",
        network="tiny",
        out=tmp_path / "run",
        renames={"backbone.": "wrong.", "backbone.stage": "encoder.levels"},
    )
    transferred = run.record["transfer"]
    assert {item["by"] for item in transferred["copied"]} == {"map"}
    assert all(name.startswith("decoder.") for name in transferred["missing"])
    assert {item["name"] for item in transferred["skipped"]} == {
        name for name in theirs if name.startswith(("up.", "output."))
    }


class Other(nn.Module):
    """The tiny encoder with other names, its layers in the same order."""

    def __init__(self, widths=TINY.widths):
        super().__init__()
        blocks, before = [], 1
        for width in widths:
            first, second = nn.Conv2d(before, width, 3), nn.Conv2d(width, width, 3)
            blocks.append(nn.Sequential(first, second, nn.GroupNorm(8, width)))
            before = width
        self.encoder = nn.Sequential(*blocks)
        self.head = nn.Linear(widths[-1], 2)


def test_tensors_are_matched_by_order_if_all_shapes_of_a_part_agree(tmp_path):
    theirs = Other()
    torch.save(theirs.state_dict(), tmp_path / "a.pt")
    run = import_weights(tmp_path / "a.pt", network="tiny", out=tmp_path / "run")
    stored = load_file(run.weights)
    assert torch.equal(stored["encoder.levels.1.ws_conv.weight"], theirs.encoder[1][1].weight)
    assert torch.equal(stored["encoder.levels.2.norm.bias"], theirs.encoder[2][2].bias)
    assert {item["by"] for item in run.record["transfer"]["copied"]} == {"order"}
    assert [i["name"] for i in run.record["transfer"]["skipped"]] == ["head.weight", "head.bias"]


def test_tensors_are_not_matched_by_order_if_it_would_be_ambiguous(tmp_path):
    torch.save(Other((8, 16, 24)).state_dict(), tmp_path / "a.pt")
    save_file(Other().state_dict(), tmp_path / "b.safetensors")
    for name in ("a.pt", "b.safetensors"):
        with pytest.raises(CheckpointError, match="encoder"):
            import_weights(tmp_path / name, network="tiny", out=tmp_path / "run")


def test_every_tensor_is_listed_as_copied_skipped_or_mismatched(tmp_path):
    state = dict(make_network(TINY, 3, 2).state_dict())
    del state["decoder.levels.1.norm.bias"]
    state |= {"extra.weight": torch.zeros(2), "steps": torch.zeros(1, dtype=torch.int32)}
    torch.save(state, tmp_path / "a.pt")
    run = import_weights(tmp_path / "a.pt", network="tiny", out=tmp_path / "run")
    found = run.record["transfer"]
    assert found["mismatched"] == [
        {
            "name": "encoder.levels.0.conv.weight",
            "as": "encoder.levels.0.conv.weight",
            "source": [8, 3, 3, 3],
            "target": [8, 1, 3, 3],
        }
    ]
    assert {"name": "steps", "reason": "of the type int32"} in found["skipped"]
    assert set(found["missing"]) == {"encoder.levels.0.conv.weight", "decoder.levels.1.norm.bias"}
    named = [i["name"] for key in ("copied", "skipped", "mismatched") for i in found[key]]
    assert sorted(named) == sorted(state)


def test_channels_come_from_the_preprocessing(tmp_path):
    torch.save(make_network(TINY, 3, 2).state_dict(), tmp_path / "a.pt")
    ct = default_preprocessing("CT", 2)
    run = import_weights(tmp_path / "a.pt", network="tiny", preprocessing=ct, out=tmp_path / "run")
    assert not run.record["transfer"]["mismatched"]
    with pytest.raises(ConfigError, match="takes slices"):
        import_weights(
            tmp_path / "a.pt",
            network="tiny",
            preprocessing=default_preprocessing("MR", 3),
            out=tmp_path / "other",
        )


def test_fine_tuning_starts_from_an_imported_run(tmp_path):
    source = make_network(TINY, 1, 2)
    torch.save(source.state_dict(), tmp_path / "a.pt")
    before = import_weights(tmp_path / "a.pt", network="tiny", out=tmp_path / "imported")
    write_dataset(tmp_path / "data", 1, "MR", seed=1)
    run = finetune(
        pair_scans(tmp_path / "data" / "images", tmp_path / "data" / "labels"),
        init=before.folder,
        out=tmp_path / "run",
        settings=FinetuneSettings(training=Training(steps=1, batch_size=2)),
        device="cpu",
    )
    copied = run.record["transfer"]["copied"]
    assert len(copied) == len([n for n in source.state_dict() if n.startswith("encoder.")])
    report = transfer(load_file(before.weights), make_network(TINY, 1, 2), "encoder+decoder")
    assert not report.mismatched


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


class Filler:
    def __reduce__(self):
        return (bytearray, (10**12,))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_a_pickle_that_runs_code_is_refused(tmp_path, legacy, suffix):
    path = (tmp_path / "a.pt").with_suffix(suffix)
    state = {"state_dict": {"encoder.weight": torch.zeros(2)}, "x": Trap(tmp_path / "sprung")}
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"a\.pth? .*\w+\.mkdir.* code") as caught:
        import_weights(path, network="tiny", out=tmp_path / "run")
    assert not (tmp_path / "sprung").exists()
    assert not (tmp_path / "run").exists()
    assert "\n" not in str(caught.value)


def hostile(path, kind):
    state = make_network(TINY, 1, 2).state_dict()
    if kind == "namespace":
        torch.save({"state_dict": state, "args": argparse.Namespace(x=1)}, path)
    elif kind == "module":
        torch.save(nn.Linear(2, 2), path)
    elif kind == "bytearray":
        torch.save({"state_dict": state, "x": Filler()}, path)
    elif kind == "plain pickle":
        path.write_bytes(pickle.dumps({"x": Trap(path.with_name("sprung"))}))
    elif kind == "text":
        path.write_text("hello " * 100)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut":
        torch.save(state, path)
        path.write_bytes(path.read_bytes()[:-500])
    elif kind == "expanded":
        name = "encoder.levels.0.conv.weight"
        torch.save({name: torch.zeros(1).expand(10**12)}, path)
    elif kind == "no weights":
        torch.save({"epoch": 3, "\x1b[2J": "x"}, path)
    elif kind == "a list":
        torch.save([torch.zeros(2)], path)
    elif kind == "nan":
        state["encoder.levels.0.conv.bias"][0] = float("nan")
        torch.save(state, path)
    elif kind == "tar":
        torch.save(state, path.with_name("plain"), _use_new_zipfile_serialization=False)
        with tarfile.open(path, "w") as archive:
            archive.add(path.with_name("plain"), "pickle")
    elif kind == "case":
        # PyTorch itself reads the second pickle as data.pkl.
        torch.save(state, path)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(f"{path.stem}/DATA.PKL", pickle.dumps({"x": 1}, protocol=2))
    elif kind == "sizes":
        torch.save(state, path)
        data = bytearray(path.read_bytes())
        at = data.rindex(b"PK\x01\x02")  # the last entry of the directory
        data[at + 20 : at + 28] = struct.pack("<II", 2**31, 2**31)
        path.write_bytes(data)
    elif kind == "script":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)
    elif kind == "lightning":
        more = {"pytorch-lightning_version": "2.4.0", "hyper_parameters": argparse.Namespace(x=1)}
        torch.save({"state_dict": state, **more}, path)
    elif kind == "whole model":
        torch.save({"epoch": 3, "model": nn.Sequential(nn.Linear(2, 2))}, path)
    elif kind == "safetensors":
        save_file(state, path)
    elif kind == "gzip":
        torch.save(state, path)
        path.write_bytes(gzip.compress(path.read_bytes()))
    elif kind == "keras":
        path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(500))
    elif kind == "web page":
        path.write_text("<!DOCTYPE html><html><body>Please log in.</body></html>")
    elif kind == "other zip":
        np.savez(path.with_suffix(".npz"), a=np.zeros(3))
        path.with_suffix(".npz").rename(path)
    elif kind == "compressed":
        torch.save(state, path.with_name("plain"))
        with (
            zipfile.ZipFile(path.with_name("plain")) as plain,
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed,
        ):
            for entry in plain.infolist():
                packed.writestr(entry.filename, plain.read(entry))


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("namespace", "argparse.Namespace"),
        ("module", "Linear"),
        ("bytearray", "bytearray"),
        ("plain pickle", "damaged"),
        ("text", "damaged"),
        ("empty", "damaged"),
        ("cut", "damaged"),
        ("compressed", "damaged"),
        ("expanded", "no tensors"),
        ("no weights", "epoch"),
        ("a list", "no state dict"),
        ("nan", "encoder.levels.0.conv.bias"),
        ("missing", "not exist"),
        ("tar", "tar archive"),
        ("case", "damaged"),
        ("sizes", "damaged"),
        ("script", "TorchScript"),
        ("lightning", "checkpoint of Lightning"),
        ("whole model", "whole pickled model"),
        ("safetensors", "suffix .safetensors"),
        ("gzip", "gzip"),
        ("keras", "HDF5"),
        ("web page", "web page"),
        ("other zip", "without weights"),
    ],
)
def test_hostile_files_are_refused_in_one_line(tmp_path, kind, named):
    hostile(tmp_path / "a.pt", kind)
    with pytest.raises(CheckpointError) as caught:
        import_weights(tmp_path / "a.pt", network="tiny", out=tmp_path / "run")
    message = str(caught.value)
    assert "a.pt" in message
    assert named in message
    assert "\n" not in message
    assert "\x1b" not in message
    assert len(message) < 500
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_named_safetensors_is_recognised(tmp_path, legacy):
    path = tmp_path / "a.safetensors"
    torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"is a file of PyTorch; give it the suffix \.pt"):
        read_foreign(path)


def test_a_checkpoint_of_lightning_with_plain_values_is_read(tmp_path):
    state = {"net.a": torch.ones(2)}
    more = {"pytorch-lightning_version": "2.4.0", "hyper_parameters": {"rate": 0.1}, "epoch": 3}
    torch.save({"state_dict": state, **more}, tmp_path / "last.ckpt")
    assert list(read_foreign(tmp_path / "last.ckpt").tensors) == ["a"]


def scalar(kind, data, encoding="latin1"):
    """Return pickle opcodes that create a NumPy scalar."""
    return (
        b"cnumpy._core.multiarray\nscalar\n" + dtype(kind)
        + b"c_codecs\nencode\n" + text(data) + text(encoding) + b"\x86R\x86R"
    )  # fmt: skip


def dtype(kind):
    return b"cnumpy\ndtype\n" + text(kind) + b"\x89\x88\x87R"


def text(value):
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def storage(numbers, name="0"):
    place = b"ctorch\nFloatStorage\n" + text(name) + text("cpu") + number(numbers)
    return b"(" + text("storage") + place + b"tQ"


def number(value):
    return b"J" + value.to_bytes(4, "little", signed=True)


def tensor(size, stride=1, offset=0, numbers=4):
    view = number(offset) + number(size) + b"\x85" + number(stride) + b"\x85"
    hooks = b"\x89ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage(numbers) + view + hooks + b"tR"


def nested(depth):
    """Return opcodes of nested tuples, each with the last one twice: 2^depth steps to hash."""
    return b")" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(depth))


def attributes(name):
    return b"ccollections\nOrderedDict\n)R}" + text(name) + b"K\x01sb"


BOMBS = {
    "void number of a gigabyte": dtype("V1000000000"),
    "type with a hash that takes years": nested(60) + b"q\xff0cnumpy\ndtype\nh\xff\x89\x88\x87R",
    "type that is a nested tuple": b"cnumpy\ndtype\n(" + nested(60) + b"\x89\x88tR",
    "NumPy number that is too short": scalar("f8", "1234"),
    "NumPy number that is too long": scalar("f4", "12345678"),
    "bytes in a slow encoding": scalar("f4", "1234", "punycode"),
    "nested tuple as a key": b"}" + nested(60) + b"K\x01s",
    "nested tuple as the name of a storage": (
        b"(" + text("storage") + b"ctorch\nFloatStorage\n" + nested(60) + text("cpu")
        + number(4) + b"tQ"
    ),
    "tensor as a key": b"}" + tensor(4) + b"K\x01s",
    "tensor without values in the file": b"ctorch\nFloatTensor\n" + number(10**9) + b"\x85R",
    "storage without values in the file": b"ctorch\nFloatStorage\n" + number(10**9) + b"\x85R",
    "storage larger than stored": tensor(10**9, numbers=10**9),
    "tensor larger than its storage": tensor(5),
    "tensor larger than its storage by strides": tensor(2, stride=4),
    "tensor larger than its storage by its offset": tensor(4, offset=1),
    "tensor before its storage": tensor(4, offset=-1),
    "quantised tensor": b"ctorch._utils\n_rebuild_qtensor\n)R",
    "set": b"cbuiltins\nset\n)R",
    "dictionary with attributes that hide its methods": attributes("items"),
    "too many steps": b"K\x010" * 600_000 + b"N",
    "too many values": b"(" + b"K\x01" * 1_100_000 + b"t",
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_pickles_that_exhaust_memory_or_time_are_refused(tmp_path, name):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}" + text("a") + BOMBS[name] + b"s.")
        archive.writestr("a/data/0", bytes(16))
        archive.writestr("a/version", "3\n")
        archive.writestr("a/byteorder", "little")
    started, memory = time.process_time(), peak_memory()
    with pytest.raises(CheckpointError, match=r"a\.pt") as caught:
        read_foreign(path)
    assert time.process_time() - started < 5
    assert peak_memory() - memory < 400 * 2**20
    assert "\n" not in str(caught.value)


def peak_memory():
    """Return the peak memory of this process in bytes."""
    resource = pytest.importorskip("resource")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def test_the_opcodes_of_the_bombs_are_read_in_valid_pickles(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        steps = tensor(2, stride=3) + b"s" + text("b") + scalar("f4", "1234")
        archive.writestr("a/data.pkl", b"\x80\x02}" + text("a") + steps + b"s.")
        archive.writestr("a/data/0", np.arange(4, dtype="<f4").tobytes())
        archive.writestr("a/version", "3\n")
        archive.writestr("a/byteorder", "little")
    found = read_foreign(tmp_path / "a.pt")
    assert found.tensors["a"].tolist() == [0, 3]
    assert found.left_out == (("b", "no tensor"),)


def test_a_pickle_before_an_archive_is_checked(tmp_path):
    # PyTorch decides by the first bytes, other programs by the last ones.
    torch.save({"a": torch.zeros(2)}, tmp_path / "good.pt")
    bad = b"\x80\x02" + b"}" + nested(60) + b"K\x01s."
    (tmp_path / "a.pt").write_bytes(bad * 5 + (tmp_path / "good.pt").read_bytes())
    with pytest.raises(CheckpointError, match=r"a\.pt"):
        read_foreign(tmp_path / "a.pt")


@pytest.mark.parametrize("legacy", [False, True])
def test_usual_contents_of_checkpoints_are_read(tmp_path, legacy):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    lightning = {
        "epoch": 3,
        "global_step": 2**40,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": model.state_dict(),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [{"last_epoch": 1, "_last_lr": [1e-3]}],
        "hyper_parameters": {"widths": (8, 16), "lr": 1e-3, "name": None, 3: True, 0.5: "x"},
        "MixedPrecision": {"scale": 65536.0},
        "more": {
            "size": torch.Size([1, 2]),
            "dtype": torch.float16,
            "device": torch.device("cuda", 0),
            "weight": nn.Parameter(torch.zeros(2)),
            "view": torch.arange(12.0).reshape(3, 4).T[1:],
            "empty": torch.zeros(0, 3),
            "numbers": [np.float32(0.5), np.int64(3), np.bool_(True), np.float16(0.5)],
        },
    }
    torch.save(lightning, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    found = read_foreign(tmp_path / "a.pt").tensors
    assert set(found) == set(model.state_dict())
    for name, value in model.state_dict().items():
        assert torch.equal(found[name], value)


@pytest.mark.parametrize("legacy", [False, True])
def test_damaged_copies_are_read_or_refused_in_one_line(tmp_path, legacy):
    path = tmp_path / "a.pt"
    torch.save(
        make_network(TINY, 1, 2).state_dict(), path, _use_new_zipfile_serialization=not legacy
    )
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    messages = []
    for number in range(150):
        rng = np.random.default_rng(number)
        data = whole.copy()
        for _ in range(int(rng.integers(1, 5))):
            data[rng.integers(0, min(len(data), 6000))] ^= np.uint8(1 << rng.integers(0, 8))
        path.write_bytes(data[: rng.integers(0, len(data))] if number % 3 == 0 else data)
        try:
            import_weights(path, network="tiny", out=tmp_path / "run", overwrite=True)
        except SslsegError as error:
            messages.append(str(error))
    assert len(messages) > 50
    assert not any("\n" in message for message in messages)


def test_an_existing_run_is_not_overwritten(tmp_path):
    torch.save(make_network(TINY, 1, 2).state_dict(), tmp_path / "a.pt")
    import_weights(tmp_path / "a.pt", network="tiny", out=tmp_path / "run")
    with pytest.raises(StorageError, match="already contains a run"):
        import_weights(tmp_path / "a.pt", network="tiny", out=tmp_path / "run")
    (tmp_path / "a.bin").touch()
    with pytest.raises(CheckpointError, match=r"a\.bin"):
        import_weights(tmp_path / "a.bin", network="tiny", out=tmp_path / "other")


@pytest.mark.parametrize("name", ["last.safetensors", "mine.pt"])
def test_a_run_does_not_replace_the_weights_that_it_is_made_from(tmp_path, name):
    torch.save(make_network(TINY, 1, 2).state_dict(), tmp_path / "a.pt")
    import_weights(tmp_path / "a.pt", network="tiny", out=tmp_path / "run")
    shutil.copy(tmp_path / "a.pt", tmp_path / "run" / "mine.pt")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(ConfigError, match=re.escape(name)):
        import_weights(
            tmp_path / "run" / name, network="tiny", out=tmp_path / "run", overwrite=True
        )
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def command(*arguments):
    return command_line.run("import-weights", *arguments)


def test_the_command_reports_every_tensor(tmp_path):
    network = make_network(Network(widths=(8, 16)), 3, 2)
    state = {f"theirs.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save(state | {"[red]": torch.zeros(1)}, tmp_path / "a.pt")
    done = command(
        tmp_path / "a.pt", "--network", "small", "--widths", "8,16", "--map", "theirs.=",
        "--modality", "ct", "--plane", "coronal", "--size", "128", "--out", tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in [*state, "[red]"])
    assert f"{len(state) - 2} tensors copied" in done.stderr
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["settings"]["preprocessing"]["plane"] == "coronal"
    assert record["settings"]["preprocessing"]["size"] == [128, 128]
    assert record["settings"]["network"]["widths"] == [8, 16]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--network", "huge"), "huge"),
        (("--network", "tiny", "--map", "a"), "old=new"),
        (("--network", "tiny", "--widths", "x"), "widths"),
        (("--network", "dense3d", "--widths", "8"), "has no widths"),
        (("--network", "tiny", "--widths", "8,-1"), "widths"),
        (("--network", "tiny"), "mkdir"),
    ],
)
def test_the_command_refuses_in_one_line(tmp_path, options, word):
    torch.save({"x": Trap(tmp_path / "sprung")}, tmp_path / "a.pt")
    done = command(tmp_path / "a.pt", *options, "--out", tmp_path / "run")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("napari-sslseg: ")
    assert word in line.lower()
    assert not (tmp_path / "sprung").exists()
