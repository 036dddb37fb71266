"""Which files of a listing make the model."""

from __future__ import annotations

import pytest

from gemstead.errors import HubError
from gemstead.hub.choose import RemoteFile, choose
from gemstead.hub.names import parse


def listing(*names):
    return [RemoteFile(name, 100 + place, "0" * 64) for place, name in enumerate(names)]


def picked(names, wanted, **options):
    choice = choose(listing(*names), parse(wanted), **options)
    return choice.opens, [(file.path, role) for file, role in choice.files]


UNSLOTH = [
    "x-BF16.gguf",
    "x-Q4_0.gguf",
    "x-UD-Q4_K_XL.gguf",
    "x-Q4_K_M.gguf",
    "x-Q8_0.gguf",
    "mmproj-F16.gguf",
]


@pytest.mark.parametrize(
    ("wanted", "opens"),
    [
        ("hf.co/a/b", "x-Q4_0.gguf"),
        ("hf.co/a/b:q4_k_m", "x-Q4_K_M.gguf"),
        ("hf.co/a/b:Q4_K_XL", "x-UD-Q4_K_XL.gguf"),
        ("hf.co/a/b:UD-Q4_K_XL", "x-UD-Q4_K_XL.gguf"),
        ("hf.co/a/b:X-q8_0.GGUF", "x-Q8_0.gguf"),
        ("hf.co/a/b:bf16", "x-BF16.gguf"),
    ],
)
def test_formats(wanted, opens):
    assert picked(UNSLOTH, wanted) == (opens, [(opens, "weights"), ("mmproj-F16.gguf", "mmproj")])


def test_text_only():
    assert picked(UNSLOTH, "hf.co/a/b", text_only=True)[1] == [("x-Q4_0.gguf", "weights")]


def test_google_repositories_by_their_catalogue_row():
    names = ["README.md", "gemma-4-E2B-it-mmproj.gguf", "gemma-4-E2B_q4_0-it.gguf"]
    assert picked(names, "e2b") == (names[2], [(names[2], "weights"), (names[1], "mmproj")])


def test_a_renamed_file_is_still_found():
    assert picked(["new-name-Q4_0.gguf"], "e2b")[0] == "new-name-Q4_0.gguf"


def test_the_best_mmproj():
    names = ["x-Q4_0.gguf", "mmproj-F32.gguf", "mmproj-BF16.gguf", "mmproj-F16.gguf"]
    assert picked(names, "a/b")[1][1] == ("mmproj-F16.gguf", "mmproj")
    assert picked(names[:3], "a/b")[1][1] == ("mmproj-BF16.gguf", "mmproj")


def test_split_files_come_together():
    parts = [f"BF16/x-BF16-0000{k}-of-00002.gguf" for k in (1, 2)]
    assert picked([*parts, "x-Q4_0.gguf"], "a/b:BF16") == (parts[0], [(part, "weights") for part in parts])
    with pytest.raises(HubError, match=r"of the 2 parts of .* holds only 1"):
        picked(parts[:1], "a/b")


def test_a_safetensors_repository():
    names = ["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    names += [
        "model.safetensors.index.json",
        "tokenizer.json",
        "chat_template.jinja",
        "generation_config.json",
    ]
    more = ["README.md", "original/x.pth", "consolidated.safetensors", "sub/model.safetensors", "image.png"]
    opens, files = picked([*names, *more], "google/gemma-4-E2B-it")
    assert opens == "."
    assert sorted(path for path, _ in files) == sorted(names)
    assert [role for _, role in files].count("weights") == 2


def test_a_repository_with_both():
    names = ["config.json", "model.safetensors", "x-Q4_0.gguf"]
    assert picked(names, "a/b")[0] == "."
    assert picked(names, "a/b:q4_0")[0] == "x-Q4_0.gguf"
    assert picked(names, "e2b")[0] == "x-Q4_0.gguf"


@pytest.mark.parametrize(
    ("names", "wanted", "message"),
    [
        (
            ["x.litertlm"],
            "a/b",
            r"containers gemstead does not read \(\.litertlm\); use a repository with GGUF",
        ),
        (["x.pth", "y.ckpt"], "a/b", r"\(\.ckpt, \.pth\)"),
        (["pytorch_model.bin", "config.json"], "a/b", r"\(\.bin\)"),
        (["mmproj-F16.gguf"], "a/b", r"only the image and sound side of a model \(mmproj\)"),
        (["adapter_config.json", "adapter_model.safetensors"], "a/b", "a LoRA adapter, not a model"),
        (["README.md"], "a/b", "no weights of a model"),
        (
            ["config.json", "model.safetensors"],
            "a/b:Q4_0",
            "no GGUF files, so there is no Q4_0 in it; leave :Q4_0 out",
        ),
        (UNSLOTH, "a/b:Q2_K", "holds no Q2_K; it holds BF16, Q4_0, Q4_K_M, Q4_K_XL, Q8_0"),
        (
            ["a-Q4_0.gguf", "b-Q4_0.gguf"],
            "a/b",
            r"several files that could be meant: a-Q4_0\.gguf, b-Q4_0\.gguf; name",
        ),
        (["a.gguf", "b.gguf"], "a/b", "several files|holds no"),
    ],
)
def test_what_cannot_be_chosen(names, wanted, message):
    with pytest.raises(HubError, match=message):
        picked(names, wanted)
