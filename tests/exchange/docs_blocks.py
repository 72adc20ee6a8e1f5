"""Runs the Python of docs/weights.md as it stands there.

    python tests/exchange/docs_blocks.py FOLDER

FOLDER holds the models that `round_trips.py` made and the test wrote; they are laid under the names that the page
uses. A line `# of a masked model: EXPRESSION` runs in place of the line above it, and where a line ends in
`# of a segmenter: ["KEY"]` it runs once more with that key. What a block computes of images is held to what the
library said of them. The page gives DALL-E's modules at the published sizes; here the sizes are those of the model.
"""

import re
import sys
import tempfile
import types
from os import chdir
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

sys.modules.setdefault("requests", types.ModuleType("requests"))  # DALL-E's package imports it for downloads
PAGE = Path(__file__).resolve().parents[2] / "docs" / "weights.md"
NAMES = {
    "classifier-hf": "hf_classifier_shared_square/hf",
    "beit-hf": "hf_masked_shared_square/hf",
    "segmenter-hf": "hf_segmenter_shared_square/hf",
    "classifier-timm": "timm_shared_pth/timm",
    "beit-timm": "hf_masked_shared_square/timm",
    "unilm": "timm_shared_pth/unilm",
    "classifier-onnx": "timm_shared_pth/onnx",
    "tokenizer-dalle": "dalle/dalle",
}
SEGMENTER = PAGE.parents[1] / "tests" / "fixtures" / "15_weights" / "unilm_seg.pth"  # the original's own
PUBLISHED = ["n_hid=256, n_blk_per_group=2, vocab_size=8192", "n_init=128"]
SMALL = ["n_hid=64, n_blk_per_group=1, vocab_size=512", "n_init=8"]


def run(block, names):
    exec(compile(block, str(PAGE), "exec"), names)
    return names


def close(found, wanted):
    difference = np.abs(np.asarray(found) - np.asarray(wanted)).max() / np.abs(np.asarray(wanted)).max()
    assert difference <= 1e-4, difference


def judge(block, models):
    """The lines that ran; a block that fails raises."""
    case = lambda name: load_file(models / name.split("/")[0] / "case.safetensors")
    lines = block.count("\n")
    if "transformers" in block:
        of = dict(re.findall(r"^# of a (masked model|segmenter): (.*)$", block, re.M))
        imports = "from transformers import AutoModelForSemanticSegmentation, BeitForMaskedImageModeling\n"
        for name, model, data in [
            ("classifier-hf", run(block, {})["model"], {}),
            ("beit-hf", run(f"{imports}model = {of['masked model']}", {})["model"], {"bool_masked_pos": "mask"}),
            ("segmenter-hf", run(f"{imports}model = {of['segmenter']}", {})["model"], {}),
        ]:
            stored = case(NAMES[name])
            with torch.no_grad():
                found = model.eval()(stored["images"].float(), **{k: stored[v].bool() for k, v in data.items()}).logits
            close(found, stored["logits"])
    elif "timm" in block:
        (masked,) = re.findall(r"^# of a masked model: (.*)$", block, re.M)
        stored = case(NAMES["classifier-timm"])
        with torch.no_grad():
            close(run(block, {})["model"].eval()(stored["images"].float()), stored["logits"])
            run(f"import timm\nmodel = {masked}", {})["model"].eval()(case(NAMES["beit-timm"])["images"].float())
    elif "torch.load" in block:
        assert all(torch.is_tensor(x) for x in run(block, {})["state"].values())
        segmenter = re.sub(r'\["model"\](.*# of a segmenter: (\["\w+"\]))', r"\2\1", block)
        segmenter = segmenter.replace("unilm/", "unilm-segmenter/")
        assert '["model"]' not in segmenter, segmenter
        assert all(torch.is_tensor(x) for x in run(segmenter, {})["state"].values())
    elif "onnxruntime" in block:
        stored = case(NAMES["classifier-onnx"])
        close(run(block, {"images": stored["images"].float().numpy()})["logits"], stored["logits"])
    elif "dall_e" in block:
        stored = case(NAMES["tokenizer-dalle"])
        for published, small in zip(PUBLISHED, SMALL):
            assert published in block, f"{published} is not on the page"
            block = block.replace(published, small)
        images = (stored["images"] - 0.1) / 0.8
        tokens = run(block, {"images": images.float()})["tokens"]
        assert torch.equal(tokens, stored["logits"].argmax(1)), "tokens differ"
    else:
        raise AssertionError(f"no model for this block of {PAGE}:\n{block}")
    return lines


def main():
    models = Path(sys.argv[1]).resolve()
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    with tempfile.TemporaryDirectory() as folder:
        chdir(folder)
        for name, target in NAMES.items():
            Path(name).symlink_to(models / target)
        Path("unilm-segmenter").mkdir()
        Path("unilm-segmenter/model.pth").symlink_to(SEGMENTER)
        lines = [judge(block, models) for block in blocks]
        chdir("/")
    print(f"the {len(blocks)} blocks of Python in docs/weights.md run, {sum(lines)} lines")
    assert len(blocks) == 5, "blocks of docs/weights.md"


main()
