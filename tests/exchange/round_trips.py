"""Models there and back with transformers, timm, ONNX Runtime and DALL-E's modules.

    python tests/exchange/round_trips.py FOLDER make
    BEIT_EXCHANGE=FOLDER cargo test --release --test suite exchange::for_other_programs
    python tests/exchange/round_trips.py FOLDER judge

`make` writes random models of each library, their inputs and what the library makes of them in double precision.
The test reads each as it is, computes the same in f32 and f64, and writes the model in every format that has its
kind. `judge` compares: ours with theirs, and what the libraries make of what was written. Bounds are of the largest
number of a result: 1e-10 in f64, 1e-4 in f32. Written with Python 3.11, torch 2.15.0, transformers 5.24.0, timm
1.0.31, onnxruntime 1.32.0; DALL-E's package where it is installed (`pip install --no-deps DALL-E attrs`).
"""

import json
import sys
import types
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file as numbers_of
from safetensors.torch import load_file, save_file

# DALL-E's package loads files with it, which nothing here does.
sys.modules.setdefault("requests", types.ModuleType("requests"))

SEED = 3
F64, F32 = 1e-10, 1e-4
SMALL = dict(hidden_size=40, num_attention_heads=4, intermediate_size=136, num_hidden_layers=3)
POSITIONS = {
    "shared": dict(use_shared_relative_position_bias=True),
    "per_block": dict(use_relative_position_bias=True),
    "absolute": dict(use_absolute_position_embeddings=True),
    "both": dict(use_absolute_position_embeddings=True, use_relative_position_bias=True),
}
SIZES = {"square": dict(image_size=32, patch_size=8), "wide": dict(image_size=[16, 40], patch_size=8)}
TIMM = {
    "per_block": dict(img_size=32, patch_size=8, init_values=0.1),
    "shared": dict(img_size=32, patch_size=8, use_rel_pos_bias=False, use_shared_rel_pos_bias=True),
    "class_token": dict(img_size=(16, 40), patch_size=8, init_values=0.1, global_pool="token"),
    "both": dict(img_size=32, patch_size=8, use_abs_pos_emb=True, init_values=None),
    "absolute": dict(img_size=32, patch_size=8, use_abs_pos_emb=True, use_rel_pos_bias=False, embed_dim=192,
                     num_heads=6),
}
ODD = [dict(layer_norm_eps=1e-6), dict(layer_norm_eps=1e-12), dict(layer_norm_eps=1e-5, layer_scale_init_value=0.0)]


def shaken(model):
    """Every parameter moved, so that none is at 0 or 1 and no two are alike."""
    torch.manual_seed(SEED)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


def pixels(model_size):
    height, width = (model_size, model_size) if isinstance(model_size, int) else model_size
    torch.manual_seed(SEED + 1)
    return torch.randn(3, 3, height, width)


def keep(folder, tensors):
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "case.safetensors")


def make_transformers(out):
    from transformers import BeitConfig, BeitForImageClassification, BeitForMaskedImageModeling

    odd = 0
    for position, switches in POSITIONS.items():
        for size, sides in SIZES.items():
            if size == "wide" and position in ("absolute", "both"):
                continue  # transformers itself cannot run these
            common = {**SMALL, **switches, **sides, **ODD[odd % len(ODD)]}
            odd += 1
            images = pixels(sides["image_size"])
            count = images.shape[2] * images.shape[3] // 64
            mask = torch.arange(3 * count).reshape(3, count) % 3 == 0

            config = BeitConfig(**common, vocab_size=29, use_mask_token=True)
            model = shaken(BeitForMaskedImageModeling(config))
            folder = out / f"hf_masked_{position}_{size}"
            model.save_pretrained(folder / "model", max_shard_size="40KB" if odd % 2 else "5GB")
            with torch.no_grad():
                logits = model.double()(images.double(), bool_masked_pos=mask).logits
            keep(folder, {"images": images, "mask": mask.to(torch.uint8), "logits": logits})

            names = {i: f"class {i}" for i in range(7)}
            config = BeitConfig(**common, id2label=names, use_mean_pooling=odd % 2 == 0)
            model = shaken(BeitForImageClassification(config))
            folder = out / f"hf_classifier_{position}_{size}"
            model.save_pretrained(folder / "model")
            with torch.no_grad():
                logits = model.double()(images.double()).logits
            keep(folder, {"images": images, "logits": logits})


def make_segmenters(out):
    """Levels at the first and the last places, batch norms with statistics of their own, with and without the second
    head; files with the names of the modules as well."""
    from transformers import BeitConfig, BeitForSemanticSegmentation

    places = [[1, 2, 3, 4], [2, 3, 4, 5], [1, 3, 4, 5]]
    cases = [(position, "square") for position in POSITIONS] + [("per_block", "wide"), ("shared", "wide")]
    for number, (position, size) in enumerate(cases):
        more = dict(use_auxiliary_head=False) if number % 3 == 2 else dict(auxiliary_channels=11)
        common = {**SMALL, **POSITIONS[position], **SIZES[size], **ODD[number % len(ODD)], **more}
        common.update(num_hidden_layers=5, out_indices=places[number % len(places)])
        config = BeitConfig(**common, id2label={i: f"class {i}" for i in range(5)}, use_mean_pooling=number % 2 == 0)
        model = shaken(BeitForSemanticSegmentation(config))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer += 0.1 * torch.randn_like(buffer)
            elif name.endswith("running_var"):
                buffer *= torch.rand_like(buffer) + 0.5
            elif name.endswith("num_batches_tracked"):
                buffer += 3
        folder = out / f"hf_segmenter_{position}_{size}"
        model.save_pretrained(folder / "model")
        if number == 1:
            save_file(model.state_dict(), folder / "model" / "model.safetensors")
        images = pixels(SIZES[size]["image_size"])
        with torch.no_grad():
            keep(folder, {"images": images, "logits": model.double()(images.double()).logits})


def make_timm(out):
    import timm

    common = dict(embed_dim=40, depth=3, num_heads=4, mlp_ratio=3.4, num_classes=7)
    for name, more in TIMM.items():
        torch.manual_seed(SEED)
        arguments = {"use_abs_pos_emb": False, "use_rel_pos_bias": True, **common, **more}
        model = shaken(timm.create_model("beit_base_patch16_224", **arguments))
        images = pixels(more["img_size"])
        for form in ("pth", "safetensors", "folder"):
            folder = out / f"timm_{name}_{form}"
            folder.mkdir(parents=True)
            state = model.state_dict()
            if form == "pth":
                torch.save({"model": state}, folder / "model.pth")
            elif form == "safetensors":
                save_file(state, folder / "model.safetensors")
            else:
                (folder / "model").mkdir()
                torch.save(state, folder / "model" / "pytorch_model.bin")
                sides = list(images.shape[1:])
                heads = {"num_heads": arguments["num_heads"]}
                config = {"architecture": "beit_base_patch16_224", "num_classes": 7, "model_args": heads,
                          "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": sides}}
                (folder / "model" / "config.json").write_text(json.dumps(config))
            with torch.no_grad():
                logits = model.double()(images.double())
            model.float()
            heads = torch.tensor([arguments["num_heads"]], dtype=torch.uint8)
            keep(folder, {"images": images, "logits": logits, "heads": heads})


def make_dalle(out):
    """Whole modules, as the published files are."""
    from dall_e import Decoder, Encoder

    torch.manual_seed(SEED)
    encoder = shaken(Encoder(n_hid=64, n_blk_per_group=1, vocab_size=512))
    decoder = shaken(Decoder(n_init=8, n_hid=64, n_blk_per_group=1, vocab_size=512))
    folder = out / "dalle"
    (folder / "model").mkdir(parents=True)
    torch.save(encoder, folder / "model" / "encoder.pkl")
    torch.save(decoder, folder / "model" / "decoder.pkl", _use_new_zipfile_serialization=False)
    images = 0.8 * torch.rand(2, 3, 112, 112) + 0.1
    with torch.no_grad():
        keep(folder, {"images": images, "logits": encoder(images)})


def difference(found, wanted):
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    assert found.shape == wanted.shape, (found.shape, wanted.shape)
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def from_transformers(folder, images, mask):
    import transformers

    config = json.loads((folder / "config.json").read_text())
    kind = getattr(transformers, config["architectures"][0])
    # Its AutoModelForMaskedImageModeling is for models that predict pixels.
    auto = {
        "BeitForImageClassification": transformers.AutoModelForImageClassification,
        "BeitForSemanticSegmentation": transformers.AutoModelForSemanticSegmentation,
    }
    reader = auto.get(config["architectures"][0], kind)
    model, loading = reader.from_pretrained(folder, output_loading_info=True)
    assert isinstance(model, kind), type(model)
    assert not any(loading.values()), loading
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    assert processor.do_normalize and len(processor.image_mean) == 3, processor
    with torch.no_grad():
        if mask is None:
            return model, model.eval()(images).logits
        return model, model.eval()(images, bool_masked_pos=mask).logits


def from_timm(folder, images, **arguments):
    import timm

    model = timm.create_model(f"local-dir:{folder}", pretrained=True, **arguments)
    with torch.no_grad():
        return model.eval()(images)


def from_unilm(folder, images, case):
    """The checkpoint's tensors in the model that they came from, which has the original's names in timm."""
    state = torch.load(folder / "model.pth", weights_only=True)
    (key, state), = state.items()
    assert key == ("state_dict" if "_segmenter_" in case else "model"), key
    if not case.startswith("timm_"):
        return None
    import timm

    common = dict(embed_dim=40, depth=3, num_heads=4, mlp_ratio=3.4, num_classes=7, use_abs_pos_emb=False)
    name = case.removeprefix("timm_").rsplit("_", 1)[0]
    model = timm.create_model("beit_base_patch16_224", **{**common, "use_rel_pos_bias": True, **TIMM[name]})
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not missing and all(key.endswith("relative_position_index") for key in unexpected), (missing, unexpected)
    with torch.no_grad():
        return model.eval()(images)


def from_onnx(path, images, name):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    return session.run([name], {entry.name: images.numpy()})[0]


def from_dalle(folder, images):
    """The lines of docs/weights.md, for the encoder at the sizes here."""
    from dall_e import Encoder
    from safetensors.torch import load_file

    weights = load_file(folder / "encoder.safetensors")
    encoder = Encoder(n_hid=64, n_blk_per_group=1, vocab_size=512)
    encoder.load_state_dict(weights)
    with torch.no_grad():
        return encoder.eval()(images)


def judge_one(folder):
    """The difference of each way from what the library said, and its bound."""
    case, ours = load_file(folder / "case.safetensors"), numbers_of(folder / "ours.safetensors")
    images, wanted = case["images"], case["logits"].numpy()
    mask = case["mask"].bool() if "mask" in case else None
    yield "here in f32", difference(ours["f32"], wanted), F32
    if folder.name == "dalle":
        tokens = wanted.argmax(1)
        yield f"of {tokens.size} tokens, differ here", float((ours["tokens"] != tokens).mean()), 0.0
        yield "DALL-E's encoder", difference(from_dalle(folder / "dalle", images), wanted), F32
        found = from_onnx(folder / "onnx" / "model.onnx", (images - 0.1) / 0.8, "tokens")
        yield "tokens of ONNX that differ", float((found != tokens).mean()), 0.0
        return
    # What transformers makes of the table of a rectangle is made once here, and kept in f32.
    rounded = folder.name.startswith("hf_") and folder.name.endswith("_wide")
    yield "here in f64", difference(ours["f64"], wanted), 1e-8 if rounded else F64
    if (folder / "hf").exists():
        model, logits = from_transformers(folder / "hf", images, mask)
        yield "transformers", difference(logits, wanted), F32
        if mask is not None and (folder / "timm").exists():
            with torch.no_grad():
                token = model.layernorm(model.beit(images).last_hidden_state)[:, 0]
            yield "timm's class token", difference(from_timm(folder / "timm", images, num_classes=0), token), F32
    if (folder / "unilm").exists():
        found = from_unilm(folder / "unilm", images, folder.name)
        if found is not None:
            yield "original names", difference(found, wanted), F32
    if mask is None and "_segmenter_" not in folder.name:
        yield "ONNX", difference(from_onnx(folder / "onnx" / "model.onnx", images, "logits"), wanted), F32
        if (folder / "timm").exists():
            yield "timm", difference(from_timm(folder / "timm", images), wanted), F32


def judge(out):
    bad, ways, folders = 0, 0, sorted(path.parent for path in out.glob("*/case.safetensors"))
    for folder in folders:
        found = list(judge_one(folder))
        wrong = [way for way in found if not way[1] <= way[2]]
        ways, bad = ways + len(found), bad + len(wrong)
        print("FAIL" if wrong else "ok  ", folder.name, ", ".join(f"{name} {size:.1e}" for name, size, _ in found))
    print(f"{len(folders)} models, {ways - bad} of {ways} ways agree")
    sys.exit(bad > 0 or not folders)


def main():
    out, step = Path(sys.argv[1]), sys.argv[2]
    if step == "judge":
        judge(out)
    make_transformers(out)
    make_segmenters(out)
    make_timm(out)
    try:
        import dall_e  # noqa: F401
    except ImportError:
        print("skipped: DALL-E's modules (pip install --no-deps DALL-E attrs)")
    else:
        make_dalle(out)


main()
