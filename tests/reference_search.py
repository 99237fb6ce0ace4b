"""Random cases for the search, decoded by transformers' `generate` and by ours, and compared."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

from adapter_hub.decoding.decode import prompt_tokens, search
from adapter_hub.decoding.options import DecodingOptions
from adapter_hub.model.base_model import BaseModel
from adapter_hub.model.session import Session

NEAR = 1e-4  # candidates that differ by less may come out in either order
LANGUAGES = ("en", "da", "pl", "ja")


def random_base(seed: int) -> BaseModel:
    """Return a random Whisper without files: a vocabulary of text, specials and timestamps."""
    rng = random.Random(seed)
    text, stamps = rng.choice([60, 300, 1500]), rng.choice([20, 80])
    end = text
    start, prev, none = end + 1, end + 2 + len(LANGUAGES) + 2, end + 2 + len(LANGUAGES) + 4
    heads = rng.choice([1, 2, 4])
    config = WhisperConfig(
        vocab_size=none + 1 + stamps,
        d_model=heads * rng.choice([8, 16]),
        encoder_layers=1,
        decoder_layers=rng.choice([1, 2, 3]),
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=32,
        decoder_ffn_dim=rng.choice([32, 64]),
        max_source_positions=rng.choice([8, 30]),
        max_target_positions=rng.choice([24, 48, 70]),
        num_mel_bins=8,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
    )
    torch.manual_seed(seed)
    model = WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "embed" not in name:
                parameter.normal_(std=rng.choice([0.15, 0.3]))
            elif "decoder.embed_tokens" in name:
                parameter.normal_(std=rng.choice([0.3, 0.6]))
                parameter[end] *= rng.choice([1.0, 1.5, 2.0, 3.0])
            elif "decoder.embed_positions" in name:  # so that texts wander and end at different lengths
                parameter.normal_(std=rng.choice([0.3, 1.0]))
    model.generation_config = GenerationConfig(
        eos_token_id=end,
        pad_token_id=end,
        bos_token_id=end,
        decoder_start_token_id=start,
        is_multilingual=True,
        lang_to_id={f"<|{language}|>": start + 1 + i for i, language in enumerate(LANGUAGES)},
        task_to_id={"transcribe": start + 1 + len(LANGUAGES), "translate": start + 2 + len(LANGUAGES)},
        prev_sot_token_id=prev,
        no_timestamps_token_id=none,
        max_length=448,
        suppress_tokens=sorted({*rng.sample(range(text), rng.choice([0, 5, 20])), *range(start, none), none}),
        begin_suppress_tokens=rng.choice([None, [end], [end, 3, 7]]),
        max_initial_timestamp_index=rng.choice([None, 1, 10]),
    )
    return BaseModel(model, SimpleNamespace(), Path(), f"random-{seed}", None, "")


@dataclass
class Case:
    """One case: what both are asked, and their answers by row."""

    seed: int
    base: BaseModel
    features: torch.Tensor
    languages: list[str]
    options: DecodingOptions
    previous: list[int]
    theirs: list[tuple[list[int], float | None]] = field(default_factory=list)
    ours: list[tuple[list[int], float]] = field(default_factory=list)


def random_case(seed: int) -> Case:
    rng = random.Random(seed * 7919 + 1)
    base = random_base(seed)
    config = base.model.config
    rows = rng.randint(1, 5)
    torch.manual_seed(seed)
    features = torch.randn(rows, config.num_mel_bins, 2 * config.max_source_positions)
    previous = rng.choice([[], [], [rng.randrange(50) for _ in range(rng.randint(1, 6))]])
    options = DecodingOptions(
        beams=rng.randint(1, 5),
        timestamps=rng.random() < 0.5,
        most_tokens=rng.choice([None, None, None, 1, 5, 12]),
        length_penalty=rng.choice([1.0, 1.0, 0.0, 0.6, 2.0]),
        early_stopping=rng.choice([False, False, True, "never"]),
    )
    languages = [rng.choice(LANGUAGES) for _ in range(rows)]
    return Case(seed, base, features, languages, options, previous)


@torch.inference_mode()
def run(case: Case) -> Case:
    """Fill in both answers."""
    base, options = case.base, case.options
    model: Any = base.model
    suppressed = base.model.generation_config.suppress_tokens
    stamp = base.model.generation_config.no_timestamps_token_id + 1
    if not options.timestamps:
        suppressed = [*suppressed, *range(stamp, model.config.vocab_size)]
    prev = [model.generation_config.prev_sot_token_id, *case.previous]
    limits = {} if options.most_tokens is None else {"max_new_tokens": options.most_tokens}
    found = model.generate(
        case.features,
        language=case.languages,
        task=options.task,
        num_beams=options.beams,
        do_sample=False,
        length_penalty=options.length_penalty,
        early_stopping=options.early_stopping,
        return_timestamps=options.timestamps,
        prompt_ids=torch.tensor(prev) if case.previous else None,
        suppress_tokens=suppressed,
        force_unique_generate_call=True,
        return_dict_in_generate=True,
        output_scores=True,
        **limits,
    )
    prompts = [prompt_tokens(base, language, options, case.previous) for language in case.languages]
    end, skip = model.generation_config.eos_token_id, len(prompts[0])
    scores = found.sequences_scores.tolist() if options.beams > 1 else [None] * len(prompts)
    for row, score in zip(found.sequences.tolist(), scores, strict=True):
        text = row[skip:]
        case.theirs.append((text[: text.index(end)] if end in text else text, score))
    session = Session(base)
    session.set_adapters([None] * len(prompts))
    encoder_output = model.get_encoder()(case.features).last_hidden_state
    for text in search(session, encoder_output, prompts, options):
        case.ours.append((list(text.tokens), text.score))
    return case
