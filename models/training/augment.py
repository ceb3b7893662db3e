"""What the discriminator's images go through, and how ADA adapts its strength."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gankern.nn import AUGPIPES, AugmentPipe, DiffAugment

from ..ranks import sum_
from .options import TrainingOptions
from .schedule import Stage

if TYPE_CHECKING:
    from .state import TrainingState


class AdaptiveAugmentPipe(AugmentPipe):
    """An AugmentPipe whose p follows how much the discriminator overfits.

    r_t = E[sign(D(real))] is near 0 while D cannot tell, and goes to 1 as it knows the real images by heart. p starts
    at 0, grows while r_t is above its target and shrinks while it is below, at a fixed speed; it has no upper limit.
    Everything stays on the device.

    Source: Karras et al., "Training Generative Adversarial Networks with Limited Data", 2020, section 3.
    """

    signs: Tensor
    observed: Tensor

    def __init__(self, **strengths: Any) -> None:
        super().__init__(**strengths)
        self.p.zero_()
        # Sum of the signs and number of scores: since p last changed, of all processes; and since then, of this one.
        self.register_buffer("signs", torch.zeros(2))
        self.register_buffer("observed", torch.zeros(2), persistent=False)

    @torch.no_grad()
    def observe(self, real_scores: Tensor) -> None:
        """Counts the signs of scores of real images, of any shape."""
        self.observed[0] += real_scores.detach().sign().sum()
        self.observed[1] += real_scores.numel()

    @torch.no_grad()
    def collect(self, sum_over_ranks: Callable[[Tensor], Any] | None = None) -> None:
        """Ends an iteration: what was observed counts, and all processes have the same numbers again.

        Args:
            sum_over_ranks: Sums a tensor over all processes in place; None for one process.
        """
        if sum_over_ranks is not None:
            sum_over_ranks(self.observed)
        self.signs.add_(self.observed)
        self.observed.zero_()

    @torch.no_grad()
    def adapt(self, target: float, kimg: float) -> None:
        """Moves p by a step towards the target of r_t, and begins to count anew.

        Args:
            target: Of r_t.
            kimg: Thousands of real images in which p can go from 0 to 1; a step is as long as the images counted.
        """
        total, count = self.signs
        self.p.add_((total - target * count).sign() * count / (kimg * 1000)).clamp_(min=0)
        self.signs.zero_()


def new_augment(options: TrainingOptions, device: torch.device) -> nn.Module | None:
    """The augmentation of a run, before its first step; None without."""
    if options.aug == "noaug":
        return None
    if options.aug == "diffaugment":
        return DiffAugment(options.policy)
    strengths: dict[str, Any] = dict(AUGPIPES[options.augpipe])
    pipe = AdaptiveAugmentPipe(**strengths) if options.aug == "ada" else AugmentPipe(**strengths)
    pipe.p.fill_(options.augment_p)
    return pipe.to(device)


def adapt_augment(state: TrainingState, options: TrainingOptions, now: Stage) -> None:
    """Called at the end of an iteration: lets ADA adapt when it is time, and notes p."""
    if not isinstance(state.augment, AugmentPipe):
        return
    if isinstance(state.augment, AdaptiveAugmentPipe):
        state.augment.collect(sum_)
        if (now.iteration + 1) % options.ada_interval == 0:
            state.augment.adapt(options.ada_target, options.ada_kimg)
    state.stats.add("Dmain", "Progress/augment", state.augment.p)
