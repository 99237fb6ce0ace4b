"""Adapters as PEFT and its users save them: what PEFT applies comes in with its logits, all else is refused.

Every variant is made by PEFT here, changed as its users' tools change it, imported, and run beside PEFT.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from sampling import sampled
from small_whisper import ALL
from test_composition import features_of, logits_of
from transformers import WhisperForConditionalGeneration

from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import AdapterHubError
from adapter_hub.exchange.importing import Identity, import_peft, languages_of
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.loading import load_adapter
from adapter_hub.model.session import Session

Edit = Callable[[Path], None]
QV = ["q_proj", "v_proj"]
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class Variant:
    """How PEFT made an adapter, and what somebody did to its folder.

    Attributes:
        made: of LoraConfig.
        edits: of the folder.
        as_made: PEFT passes over tensors with these names, so the unchanged folder is compared.
    """

    made: dict[str, Any] = field(default_factory=dict)
    edits: tuple[Edit, ...] = ()
    as_made: bool = False


def config(**changes: Any) -> Edit:
    def edit(folder: Path) -> None:
        values = json.loads((folder / CONFIG).read_text()) | changes
        (folder / CONFIG).write_text(json.dumps(values))

    return edit


def without(*names: str) -> Edit:
    def edit(folder: Path) -> None:
        values = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps({k: v for k, v in values.items() if k not in names}))

    return edit


def renamed(change: Callable[[str], str]) -> Edit:
    def edit(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        save_file({change(name): value for name, value in tensors.items()}, folder / WEIGHTS)

    return edit


def cast(change: Callable[[str], torch.dtype]) -> Edit:
    def edit(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        save_file({name: value.to(change(name)) for name, value in tensors.items()}, folder / WEIGHTS)

    return edit


def with_tensors(**tensors: torch.Tensor) -> Edit:
    def edit(folder: Path) -> None:
        save_file({**load_file(folder / WEIGHTS), **tensors}, folder / WEIGHTS)

    return edit


def noted(folder: Path) -> None:
    save_file(load_file(folder / WEIGHTS), folder / WEIGHTS, {"format": "pt", "command": "--data /home/me"})


ADD = "base_model.model."
OLDEST = config(enable_lora=None, merge_weights=True, fan_in_fan_out=False, task_type="SEQ_2_SEQ_LM")
MODERN = (
    "alora_invocation_tokens", "arrow_config", "corda_config", "ensure_weight_tying", "eva_config",
    "exclude_modules", "layer_replication", "lora_bias", "megatron_config", "peft_version",
    "qalora_group_size", "runtime_config", "target_parameters", "trainable_token_indices", "use_dora",
    "use_qalora", "use_rslora",
    "rank_pattern", "alpha_pattern", "loftq_config", "auto_mapping", "revision",
)  # fmt: skip
VARIANTS: dict[str, Variant] = {
    "as PEFT saves it": Variant(),
    "every linear": Variant({"target_modules": "all-linear"}),
    "all-linear kept as a word": Variant(
        {"target_modules": "all-linear"}, (config(target_modules="all-linear"),)
    ),
    "ALL-LINEAR": Variant({"target_modules": ALL}, (config(target_modules="ALL-LINEAR"),)),
    "all-linear without some": Variant(
        {"target_modules": "all-linear", "exclude_modules": ["fc1", "lm_head"]}
    ),
    "the head": Variant({"target_modules": ["proj_out"]}),
    "the head and more": Variant({"target_modules": [*QV, "proj_out"]}),
    "full paths": Variant({"target_modules": [f"model.decoder.layers.{n}.fc1" for n in range(2)]}),
    "ends of paths": Variant({"target_modules": ["0.self_attn.q_proj", "encoder_attn.v_proj"]}),
    "a regex": Variant({"target_modules": r".*decoder.*\.(q_proj|v_proj)"}),
    "a regex with look-ahead": Variant({"target_modules": r"model\.(?!encoder).*self_attn\.[qkv]_proj"}),
    "a regex with ^ and $": Variant({"target_modules": r"^model\.encoder\.layers\.\d+\.fc[12]$"}),
    "a regex without case": Variant({"target_modules": r"(?i).*\.Q_PROJ"}),
    "names of another model": Variant({"target_modules": [*QV, "o_proj", "gate_proj", "query_key_value"]}),
    "a full path that is not there": Variant({"target_modules": [*QV, "model.layers.31.self_attn.k_proj"]}),
    "excluding what is not there": Variant({"target_modules": QV, "exclude_modules": ["lm_head"]}),
    "excluding the encoder by a regex": Variant(
        {"target_modules": QV, "exclude_modules": r".*encoder\.layers.*"}
    ),
    "excluding a part": Variant(
        {"target_modules": ALL, "exclude_modules": ["encoder_attn.q_proj", "out_proj"]}
    ),
    "saving modules that are not there": Variant(
        {"target_modules": QV}, (config(modules_to_save=["lm_head", "embed_out", "classifier"]),)
    ),
    "saving none": Variant({"target_modules": QV}, (config(modules_to_save=[]),)),
    "some layers": Variant({"target_modules": QV, "layers_to_transform": [1]}),
    "one layer": Variant({"target_modules": QV, "layers_to_transform": 0}),
    "some layers of a pattern": Variant(
        {"target_modules": QV, "layers_to_transform": [0], "layers_pattern": "layers"}
    ),
    "some layers of several patterns": Variant(
        {"target_modules": QV, "layers_to_transform": [0, 5], "layers_pattern": ["h", "layers"]}
    ),
    "no layers in particular": Variant({"target_modules": QV, "layers_to_transform": []}),
    "rsLoRA": Variant({"target_modules": QV, "use_rslora": True, "lora_alpha": 7}),
    "rsLoRA and patterns": Variant(
        {
            "target_modules": QV,
            "use_rslora": True,
            "rank_pattern": {"q_proj": 2},
            "alpha_pattern": {"v_proj": 3},
        }
    ),
    "another rank of a name": Variant({"target_modules": QV, "rank_pattern": {"q_proj": 9}}),
    "another alpha of a name": Variant({"target_modules": QV, "alpha_pattern": {"v_proj": 64}}),
    "a rank by a regex": Variant(
        {"target_modules": QV, "rank_pattern": {r"decoder\.layers\.\d+\..*q_proj": 2}}
    ),
    "an alpha by a regex": Variant({"target_modules": QV, "alpha_pattern": {r"encoder.*[qv]_proj": 32}}),
    "a rank by ^": Variant(
        {"target_modules": QV, "rank_pattern": {r"^model.decoder.layers.0.self_attn.q_proj": 2}}
    ),
    "an alpha by ^": Variant(
        {"target_modules": QV, "alpha_pattern": {r"^model\.encoder.*": 2, "q_proj": 99}}
    ),
    "the first of two patterns": Variant(
        {"target_modules": QV, "alpha_pattern": {"q_proj": 2, ".*_proj": 50}}
    ),
    "a dot that is any character": Variant({"target_modules": QV, "alpha_pattern": {"q.proj": 80}}),
    "a pattern of nothing": Variant({"target_modules": QV, "rank_pattern": {"o_proj": 64, "^h.0": 3}}),
    "a pattern in another case": Variant({"target_modules": QV, "alpha_pattern": {"Q_PROJ": 64}}),
    "task SEQ_2_SEQ_LM": Variant({"target_modules": QV}, (config(task_type="SEQ_2_SEQ_LM"),)),
    "task CAUSAL_LM": Variant({"target_modules": QV}, (config(task_type="CAUSAL_LM"),)),
    "task FEATURE_EXTRACTION": Variant({"target_modules": QV}, (config(task_type="FEATURE_EXTRACTION"),)),
    "task SEQ_CLS": Variant({"target_modules": QV}, (config(task_type="SEQ_CLS"),)),
    "the adapter's name in the keys": Variant(
        {"target_modules": QV},
        (renamed(lambda name: name.replace(".weight", ".default.weight")),),
        as_made=True,  # PEFT 0.18 passes over these keys, later ones load them
    ),
    "another adapter's name in the keys": Variant(
        {"target_modules": QV},
        (renamed(lambda name: name.replace(".weight", ".danish-v2.weight")),),
        as_made=True,
    ),
    "compiled": Variant({"target_modules": QV}, (renamed(lambda name: f"_orig_mod.{name}"),), as_made=True),
    "compiled inside": Variant(
        {"target_modules": QV},
        (renamed(lambda name: name.replace(ADD, f"{ADD}_orig_mod.")),),
        as_made=True,
    ),
    "compiled layer by layer": Variant(
        {"target_modules": QV},
        (renamed(lambda name: name.replace(".self_attn.", "._orig_mod.self_attn.")),),
        as_made=True,
    ),
    "of DataParallel": Variant(
        {"target_modules": QV}, (renamed(lambda name: f"module.{name}"),), as_made=True
    ),
    "of DataParallel inside": Variant(
        {"target_modules": QV}, (renamed(lambda name: name.replace(ADD, f"{ADD}module.")),), as_made=True
    ),
    "of both": Variant(
        {"target_modules": QV}, (renamed(lambda name: f"module._orig_mod.{name}"),), as_made=True
    ),
    "of FSDP": Variant(
        {"target_modules": QV},
        (renamed(lambda name: name.replace(".layers.", "._fsdp_wrapped_module.layers.")),),
        as_made=True,
    ),
    "without the prefix": Variant(
        {"target_modules": QV}, (renamed(lambda name: name.removeprefix(ADD)),), True
    ),
    "wrapped twice": Variant({"target_modules": QV}, (renamed(lambda name: ADD + name),), as_made=True),
    "inside a module of Lightning": Variant(
        {"target_modules": QV}, (renamed(lambda name: f"model.{name}"),), as_made=True
    ),
    "of the model without its head": Variant(
        {"target_modules": QV}, (renamed(lambda name: name.replace(f"{ADD}model.", ADD)),), as_made=True
    ),
    "float16": Variant({"target_modules": QV}, (cast(lambda name: torch.float16),)),
    "bfloat16": Variant({"target_modules": QV}, (cast(lambda name: torch.bfloat16),)),
    "float64": Variant({"target_modules": QV}, (cast(lambda name: torch.float64),)),
    "float32 and float16": Variant(
        {"target_modules": QV}, (cast(lambda name: torch.float16 if "lora_A" in name else torch.float32),)
    ),
    "float16 and bfloat16": Variant(
        {"target_modules": QV}, (cast(lambda name: torch.float16 if "lora_A" in name else torch.bfloat16),)
    ),
    "all four": Variant(
        {"target_modules": ALL},
        (
            cast(
                lambda name: (torch.float16, torch.bfloat16, torch.float32, torch.float64)[
                    sum(name.encode()) % 4
                ]
            ),
        ),
    ),
    "float64 with names in the keys": Variant(
        {"target_modules": QV},
        (cast(lambda name: torch.float64), renamed(lambda name: name.replace(".weight", ".default.weight"))),
    ),
    "notes in the header": Variant({"target_modules": QV}, (noted,)),
    "of PEFT's first release": Variant({"target_modules": QV}, (without(*MODERN), OLDEST)),
    "made gaussian": Variant({"target_modules": QV, "init_lora_weights": "gaussian"}),
    "made orthogonal": Variant({"target_modules": QV, "init_lora_weights": "orthogonal"}),
    "made at random": Variant({"target_modules": QV, "init_lora_weights": False}),
    "settings of inits that were not used": Variant(
        {"target_modules": QV},
        (config(loftq_config={"loftq_bits": 4}, corda_config={"corda_method": "ipm"}),),
    ),
    "transposed layers": Variant({"target_modules": QV, "fan_in_fan_out": True}),
    "weight tying without a tie": Variant({"target_modules": QV, "ensure_weight_tying": True}),
    "dropout": Variant({"target_modules": QV, "lora_dropout": 0.5}),
    "an alpha that is no whole number": Variant({"target_modules": QV}, (config(lora_alpha=3.7),)),
    "a version's field of another tool": Variant({"target_modules": QV}, (config(unsloth_version="2026.9"),)),
    "fields of tomorrow that are off": Variant(
        {"target_modules": QV}, (config(use_warp=False, warp_config=None, warp_layers=[]),)
    ),
    "rank one": Variant({"target_modules": QV, "r": 1}),
    "a rank above the width": Variant({"target_modules": QV, "r": 40}),
}
QUICK = {
    "all-linear without some", "the head", "a regex with look-ahead", "names of another model",
    "saving modules that are not there", "some layers of several patterns", "an alpha by ^", "task CAUSAL_LM",
    "the adapter's name in the keys", "of both", "of the model without its head", "all four",
    "of PEFT's first release",
}  # fmt: skip


@pytest.fixture(scope="module")
def plain(base: BaseModel) -> Any:
    return WhisperForConditionalGeneration.from_pretrained(base.folder, dtype=torch.float32).eval()


def made_by_peft(folder: Path, plain: Any, **made: Any) -> None:
    """Write an adapter with random weights as PEFT saves it."""
    settings = {"r": 4, "lora_alpha": 12, "target_modules": ALL, **made}
    random = torch.Generator().manual_seed(len(str(made)))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # names that match nothing
        model = get_peft_model(copy.deepcopy(plain), LoraConfig(**settings))
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=random))
        model.save_pretrained(str(folder), save_embedding_layers=False)


def logits_of_peft(plain: Any, folder: Path, base: BaseModel, features: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fields that it does not know
        settings = LoraConfig.from_pretrained(str(folder))
        settings.task_type = None  # others pass what Whisper does not take
        model = PeftModel.from_pretrained(copy.deepcopy(plain), str(folder), config=settings)
    return logits_of(model.eval(), base, features)


def imported(folder: Path, target: Path, base: BaseModel) -> Artifact:
    identity = Identity("test/theirs", "1.0.0", languages_of(["da"]))
    return import_peft(folder, target, identity, base.pin, base.folder)


@pytest.mark.parametrize("name", sampled(VARIANTS, QUICK.__contains__))
def test_what_peft_applies_comes_in_with_pefts_logits(
    name: str, base: BaseModel, plain: Any, tmp_path: Path
) -> None:
    variant, features = VARIANTS[name], features_of(base, 2)
    theirs = tmp_path / "theirs"
    made_by_peft(theirs, plain, **variant.made)
    expected = logits_of_peft(plain, theirs, base, features) if variant.as_made else None
    for edit in variant.edits:
        edit(theirs)
    artifact = imported(theirs, tmp_path / "out", base)
    session = Session(base)
    session.set_adapters([load_adapter(base, artifact)] * 2)
    found = logits_of(session.model, base, features)
    if expected is None:
        expected = logits_of_peft(plain, theirs, base, features)
    assert torch.allclose(found, expected, atol=2e-4, rtol=1e-4)
    assert not torch.allclose(found, logits_of(plain, base, features), atol=1e-2)
    again = logits_of_peft(plain, artifact.path, base, features)
    assert torch.allclose(again, expected, atol=2e-4, rtol=1e-4)


def pointer(path: Path) -> None:
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 4711\n")


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")


PASSED_OVER = "PEFT would leave .* modules alone, which target_modules and the fields beside it do not name"
REFUSED: dict[str, tuple[Variant, str]] = {
    "a regex that matches nothing": (Variant(edits=(config(target_modules=r".*\.o_proj"),)), PASSED_OVER),
    "a regex of a part": (Variant(edits=(config(target_modules=r".*decoder.*"),)), PASSED_OVER),
    "a regex of the beginning": (Variant(edits=(config(target_modules="q_proj"),)), PASSED_OVER),
    "names of a part": (Variant(edits=(config(target_modules=["q_proj"]),)), PASSED_OVER),
    "all of it excluded": (Variant(edits=(config(exclude_modules=r".*"),)), PASSED_OVER),
    "a part excluded": (Variant(edits=(config(exclude_modules=["fc1"]),)), PASSED_OVER),
    "other layers": (Variant(edits=(config(layers_to_transform=[7]),)), PASSED_OVER),
    "layers of another name": (
        Variant(edits=(config(layers_to_transform=[0, 1], layers_pattern="h"),)),
        PASSED_OVER,
    ),
    "the head by all-linear": (
        Variant({"target_modules": ["proj_out"]}, (config(target_modules="all-linear"),)),
        PASSED_OVER,
    ),
    "a regex that never ends": (
        Variant(edits=(config(target_modules=r"(.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*)*\d\d!"),)),
        "its patterns take more than 5 seconds .* put the names of the modules in their place",
    ),
    "a regex that is none": (
        Variant(edits=(config(target_modules="(q_proj"),)),
        "is not a regular expression",
    ),
    "a module trained as a whole": (
        Variant({"target_modules": QV, "modules_to_save": ["proj_out"]}),
        "modules_to_save has 'proj_out', trained as a whole .*adapter-hub extract",
    ),
    "an embedding": (
        Variant({"target_modules": [*QV, "embed_positions"]}),
        "unknown tensor .*embed_positions.lora_embedding_A': a LoRA on an embedding",
    ),
    "a convolution": (
        Variant({"target_modules": [*QV, "conv1"]}),
        "a LoRA on a convolution over 3 positions",
    ),
    "DoRA": (
        Variant({"target_modules": QV, "use_dora": True}),
        "use_dora is True.*: only plain LoRA on linears",
    ),
    "a bias on B": (
        Variant({"target_modules": QV, "lora_bias": True}),
        "lora_bias is True.*: only plain LoRA",
    ),
    "trained biases": (
        Variant({"target_modules": QV, "bias": "lora_only"}),
        "bias is 'lora_only', expected none",
    ),
    "biases without a word": (
        Variant({"target_modules": QV, "bias": "lora_only"}, (config(bias="none"),)),
        "unknown tensor .*bias': a bias in the base model's place",
    ),
    "PiSSA": (
        Variant({"target_modules": QV, "init_lora_weights": "pissa"}),
        "init_lora_weights is 'pissa': .* path_initial_model_for_weight_conversion=INITIAL",
    ),
    "PiSSA in a hurry": (Variant(edits=(config(init_lora_weights="pissa_niter_16"),)), "path_initial_model"),
    "OLoRA": (
        Variant({"target_modules": QV, "init_lora_weights": "olora"}),
        "convert it with PEFT's save_pretr",
    ),
    "LoftQ": (
        Variant(edits=(config(init_lora_weights="loftq"),)),
        "trained on base weights that PEFT changed",
    ),
    "AdaLoRA": (
        Variant(edits=(config(peft_type="ADALORA", r=5.5, x=1),)),
        "expected LORA: AdaLoRA, whose ranks",
    ),
    "IA3": (Variant(edits=(config(peft_type="IA3", target_modules=None, y=2),)), "scales activations"),
    "prefix tuning": (Variant(edits=(config(peft_type="PREFIX_TUNING", r=None),)), "prompt learning"),
    "a kind of tomorrow": (Variant(edits=(config(peft_type="WARP"),)), "peft_type is 'WARP', expected LORA"),
    "AdapterHub's": (
        Variant(edits=(without("peft_type"), config(config={"r": 8}, model_class="Whisper"))),
        "an adapter of AdapterHub's library, not of PEFT",
    ),
    "tensors of two adapters": (
        Variant(
            {"target_modules": QV},
            (
                renamed(
                    lambda name: name.replace(".weight", f".{'one' if 'encoder' in name else 'two'}.weight")
                ),
            ),
        ),
        r"tensors of several adapters \(one, two\); save the one that is meant",
    ),
    "a tensor under two names": (
        Variant(
            {"target_modules": QV},
            (
                lambda folder: save_file(
                    (own := load_file(folder / WEIGHTS))
                    | {f"module.{name}": value.clone() for name, value in own.items()},
                    folder / WEIGHTS,
                ),
            ),
        ),
        "are both base_model",
    ),
    "another rank than its pattern's": (
        Variant({"target_modules": QV}, (config(rank_pattern={".*q_proj": 2}),)),
        "rank 4, adapter_config.json says 2",
    ),
    "a pickle": (
        Variant(edits=(pickled,)),
        "no adapter_model.safetensors but adapter_model.bin, and pickles are never .*; convert .*torch.load",
    ),
    "a pointer in the weights' place": (
        Variant(edits=(lambda folder: pointer(folder / WEIGHTS),)),
        "a Git LFS pointer in the file's place; run `git lfs pull`",
    ),
    "a pointer in the config's place": (
        Variant(edits=(lambda folder: pointer(folder / CONFIG),)),
        "a Git LFS pointer in the file's place; run `git lfs pull`",
    ),
    "whole numbers": (
        Variant(edits=(cast(lambda name: torch.int32),)),
        "dtypes I32, expected one of F32, F16, BF16 or F64",
    ),
    "a float64 beyond float32": (
        Variant(
            {"target_modules": QV},
            (
                lambda folder: save_file(
                    {name: value.double() * 1e60 for name, value in load_file(folder / WEIGHTS).items()},
                    folder / WEIGHTS,
                ),
            ),
        ),
        "has values too large for float32",
    ),
}


@pytest.mark.parametrize(
    "name", sampled(REFUSED, lambda name: list(REFUSED).index(name) % 4 == 0 or name == "names of a part")
)
def test_what_is_no_plain_lora_is_refused_with_the_reason_in_one_line(
    name: str, base: BaseModel, plain: Any, tmp_path: Path
) -> None:
    variant, message = REFUSED[name]
    theirs = tmp_path / "theirs"
    made_by_peft(theirs, plain, **variant.made)
    for edit in variant.edits:
        edit(theirs)
    with pytest.raises(AdapterHubError, match=message) as caught:
        imported(theirs, tmp_path / "out", base)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1500
    assert not (tmp_path / "out").exists()


def test_copies_of_the_base_models_own_tensors_are_left_out(
    base: BaseModel, plain: Any, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    made_by_peft(theirs, plain, target_modules=QV)
    own = {
        f"{ADD}model.decoder.embed_tokens.weight": plain.model.decoder.embed_tokens.weight.detach().clone(),
        f"{ADD}proj_out.weight": plain.proj_out.weight.detach().clone(),
    }
    with_tensors(**own)(theirs)
    artifact = imported(theirs, tmp_path / "out", base)
    assert all(".lora_" in name for name in load_file(artifact.path / WEIGHTS))
    with_tensors(**{f"{ADD}proj_out.weight": own[f"{ADD}proj_out.weight"] * 2})(theirs)
    with pytest.raises(AdapterHubError, match=r"unknown tensor 'base_model.model.proj_out.weight'"):
        imported(theirs, tmp_path / "again", base)


def test_there_are_enough_variants() -> None:
    assert len(VARIANTS) >= 60
    assert set(VARIANTS) >= QUICK
