"""Learning without forgetting: the base model's own predictions, beside the references, as a target."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def distillation_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the summed divergence of a model's predictions from its teacher's, in nats, a scalar.

    KL(teacher || model) of both distributions at a temperature T, times T² so that its gradients keep their
    size (Li and Hoiem, arXiv 1606.09282, equations 2 and 3: the cross-entropy there differs by the teacher's
    entropy, which has no gradient; Hinton et al., arXiv 1503.02531, section 2).

    Args:
        logits: `[tokens, vocabulary]` float, of the model in training.
        teacher: `[tokens, vocabulary]` float, of the base model.
        temperature: T, above 0.
    """
    divergence = functional.kl_div(
        functional.log_softmax(logits / temperature, dim=-1),
        functional.log_softmax(teacher / temperature, dim=-1),
        reduction="sum",
        log_target=True,
    )
    return divergence * temperature**2
