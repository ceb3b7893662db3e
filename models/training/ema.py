"""The exponential moving average of the generator."""

from .options import TrainingOptions
from .schedule import Stage


def average_beta(options: TrainingOptions, now: Stage, cur_nimg: int) -> float:
    """Weight of the old average in the update of the iteration that began after `cur_nimg` images."""
    if now.iteration < options.ema_start:
        return 0.0
    if options.ema_kimg is None:
        return options.ema_beta or 0.0
    return ema_beta(now.batch * options.d_steps, cur_nimg, options.ema_kimg, options.ema_rampup)


def ema_beta(batch: int, cur_nimg: int, ema_kimg: float, ema_rampup: float | None) -> float:
    """Weight of the old average in one update: 0.5 ^ (batch / half-life), the half-life counted in images.

    Args:
        batch: Images per update.
        cur_nimg: Images seen so far.
        ema_kimg: Half-life in thousands of images.
        ema_rampup: Caps the half-life at this fraction of the images seen so far; None does not.

    Returns:
        Weight in [0, 1).

    Source: Karras et al., "Training Generative Adversarial Networks with Limited Data", 2020, appendix C.
    """
    half_life = ema_kimg * 1000
    if ema_rampup is not None:
        half_life = min(half_life, cur_nimg * ema_rampup)
    return 0.5 ** (batch / max(half_life, 1e-8))
