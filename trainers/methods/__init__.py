"""How an adapter is made trainable: LoRA, warm start, expert pair, full fine-tuning.

Needs PEFT, and transformers' trainer needs accelerate: both come with the extra `train`.
"""

from importlib.util import find_spec

from adapter_hub.errors import MissingExtraError

if missing := [name for name in ("accelerate", "peft") if find_spec(name) is None]:
    raise MissingExtraError(f"training needs {' and '.join(missing)}", "train")
