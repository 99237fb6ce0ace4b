"""The base model where neither it nor an adapter is named: that of the adapters of the user's registries.

    base = default_base_model(places)

The embedded base model is a toy that shows how everything works; somebody who has adapters of another one
does not mean it.
"""

from __future__ import annotations

from adapter_hub.base_model.digest import EMBEDDED_ID
from adapter_hub.errors import InvalidInputError, NotFoundError, few
from adapter_hub.exchange import Places
from adapter_hub.formats.manifest import BaseModelPin
from adapter_hub.model.base_model import BaseModel, load_base_model, load_pinned_base_model

IN_USE = ("active", "deprecated")


def default_base_model(places: Places) -> BaseModel:
    """Load the base model of all adapters in the user's registries, or the embedded one if there are none.

    Args:
        places: the registries, device and cache.

    Raises:
        InvalidInputError: the adapters are of several base models.
        NotFoundError: the one that they are of is not here; the message names the next step.
    """
    own = [registry for registry in places.registries() if not registry.is_embedded]
    links = {
        block.base_model.digest: block.base_model.id
        for registry in own
        for versions in registry.adapters.values()
        for block in versions.values()
        if block.status in IN_USE
    }
    where = ", ".join(registry.label for registry in own)
    if len(links) > 1:
        named = [
            f"{name} ({digest[7:19]}…)" for digest, name in sorted(links.items(), key=lambda item: item[1])
        ]
        raise InvalidInputError(
            f"the adapters in {where} are for {len(links)} base models, {few(named, separator=', ')}; choose "
            f"one with --base-model (or {EMBEDDED_ID}, the embedded one)"
        )
    device, dtype, cache = places.device, places.dtype, places.cache_folder
    if not links:
        return load_base_model(EMBEDDED_ID, device=device, dtype=dtype, cache=cache)
    ((digest, name),) = links.items()
    pin = BaseModelPin(id=name, architecture="WhisperForConditionalGeneration", digest=digest)
    try:
        return load_pinned_base_model(pin, device=device, dtype=dtype, cache=cache)
    except NotFoundError as error:
        raise NotFoundError(
            f"the adapters in {where} are for {name}: {error}; or name another with --base-model"
        ) from None
