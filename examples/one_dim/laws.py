"""Classes of single numbers: each a distribution of one of five families, with one parameter of its own.

The paper does not give the constants below.
"""

import numpy as np
from scipy import special, stats

from hfsgm_jax import Dataset

CLASSES, POINTS = 100, 100  # classes of each of train, val and test; numbers per class
SIGMA = 0.3  # standard deviation of a Gaussian class, and of both halves of a mixture
GAP = 4.0  # between the means of the halves
KAPPA = 2.0  # concentration of a von Mises class
BETA = 1.0  # rate of a gamma class
ALPHA = (1.0, 10.0)  # range of its shape
SUBSETS = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [1, 3, 5, 7], [2, 4, 6, 8]])  # of a discrete class
# Family -> the parameters that all its classes share, in the order of the likelihood's.
SHARED = {
    "gaussian": (SIGMA,),
    "gaussian_mixture": (SIGMA, GAP),
    "von_mises": (KAPPA,),
    "gamma": (BETA,),
    "discrete": (),
}
FAMILIES = tuple(SHARED)
_GRID = 1500  # values of a class's parameter that its hyperprior is integrated over


def numbers(family: str, seed: int) -> Dataset:
    """The numbers of a family as images ``[n, 1, 1, 1]`` float32: 100 classes each to train, validate and test."""
    rng = np.random.default_rng([seed, FAMILIES.index(family)])
    theta = draw_parameters(family, 3 * CLASSES, rng)
    values = draw(family, np.repeat(theta, POINTS), rng)
    part, labels = np.repeat(np.arange(3), CLASSES * POINTS), np.repeat(np.arange(3 * CLASSES), POINTS)
    images = values.astype(np.float32)[:, None, None, None]
    return Dataset.from_arrays(images, labels, parts=part, info={"family": family, "source": "one_dim"})


def draw_parameters(family: str, num: int, rng: np.random.Generator) -> np.ndarray:
    """The own parameter of ``num`` classes: N(0, 1) mean, uniform direction, shape, or one of four subsets."""
    if family in ("gaussian", "gaussian_mixture"):
        return rng.normal(size=num)
    if family == "von_mises":
        return rng.uniform(-np.pi, np.pi, num)
    return rng.uniform(*ALPHA, num) if family == "gamma" else rng.integers(0, len(SUBSETS), num)


def draw(family: str, theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A number of each class whose parameter is in ``theta``."""
    if family == "gaussian":
        return rng.normal(theta, SIGMA)
    if family == "gaussian_mixture":
        return rng.normal(theta + GAP * (rng.integers(0, 2, theta.shape) - 0.5), SIGMA)
    if family == "von_mises":
        return rng.vonmises(theta, KAPPA)
    if family == "gamma":
        return rng.gamma(theta, 1 / BETA)
    return SUBSETS[theta, rng.integers(0, SUBSETS.shape[1], theta.shape)]


def log_density(family: str, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    """log p(x | theta); the arguments broadcast."""
    if family == "gaussian":
        return stats.norm.logpdf(x, theta, SIGMA)
    if family == "gaussian_mixture":
        sides = [stats.norm.logpdf(x, theta + side * GAP / 2, SIGMA) for side in (-1, 1)]
        return np.logaddexp(*sides) - np.log(2)
    if family == "von_mises":
        return stats.vonmises.logpdf(x, KAPPA, theta)
    if family == "gamma":
        return stats.gamma.logpdf(x, theta, scale=1 / BETA)
    inside = (SUBSETS[theta] == np.asarray(x)[..., None]).any(-1)
    return np.where(inside, -np.log(SUBSETS.shape[1]), -np.inf)


def exact_log_likelihood(family: str, classes: np.ndarray) -> np.ndarray:
    """log p(X) of whole classes ``[classes, points]`` under the law they were drawn from, nats: ``[classes]``.

    The class's own parameter is integrated out over a fine grid.
    """
    if family == "discrete":
        theta, log_weight = np.arange(len(SUBSETS)), np.full(len(SUBSETS), -np.log(len(SUBSETS)))
    elif family in ("gaussian", "gaussian_mixture"):
        theta = np.linspace(-6, 6, _GRID)
        log_weight = stats.norm.logpdf(theta) + np.log(theta[1] - theta[0])
    else:
        low, high = ALPHA if family == "gamma" else (-np.pi, np.pi)
        theta = low + (high - low) * (np.arange(_GRID) + 0.5) / _GRID
        log_weight = np.full(_GRID, -np.log(_GRID))
    joint = [log_density(family, theta[:, None], row).sum(1) + log_weight for row in classes]
    return special.logsumexp(joint, axis=1)
