"""Contrastive losses as functions of embeddings.

All use the cosine similarity (the siamese loss the Euclidean distance), compute in at least
float32, and are finite at any temperature.
"""

import torch
from torch import Tensor
from torch.nn import functional


def nt_xent(
    first: Tensor,
    second: Tensor,
    temperature: float = 0.1,
    *,
    same: Tensor | None = None,
) -> Tensor:
    r"""Normalised temperature-scaled cross entropy between two views (NT-Xent, SimCLR).

    Chen et al. 2020; Umapathy et al. 2022, equation 2, with τ = 0.1. For each of the 2N
    embeddings the other view of its image is the positive, and all others are negatives:

    .. math:: \ell(a, p) = -\log \frac{e^{D(a, p)/\tau}}{\sum_{k \ne a} e^{D(a, k)/\tau}}

    Parameters
    ----------
    first, second : Tensor, shape (N, D)
        Embeddings of two views of the same N images, in the same order.
    temperature : float
        τ.
    same : Tensor of bool, shape (N, N), optional
        Pairs of images that are not negatives, such as slices of the same part of the body in
        different volumes (G^D− of Chaitanya et al. 2020).

    Returns
    -------
    Tensor, scalar
        Mean over the 2N embeddings.

    Raises
    ------
    ValueError
        If the shapes differ, or the temperature is not positive.
    """
    similarity = _similarities(first, second, temperature)
    n = len(first)
    excluded = torch.eye(2 * n, dtype=torch.bool, device=similarity.device)
    positive = torch.arange(2 * n, device=similarity.device).roll(n)
    if same is not None:
        excluded |= same.to(similarity.device).repeat(2, 2)
        # The positive is of the same part as well, but is not excluded.
        excluded[torch.arange(2 * n, device=excluded.device), positive] = False
    return functional.cross_entropy(similarity.masked_fill(excluded, -torch.inf), positive)


def partition_contrast(
    first: Tensor, second: Tensor, partition: Tensor, volume: Tensor, temperature: float = 0.1
) -> Tensor:
    r"""NT-Xent with positives across volumes as well (G^D of Chaitanya et al. 2020).

    Slices of the same partition of different volumes show about the same anatomy and are positives,
    like the other view of the same slice. Slices of other partitions are negatives. Each positive
    pair has its own term, with the pair and the negatives in the denominator; the loss is the mean
    over all pairs.

    Parameters
    ----------
    first, second : Tensor, shape (N, D)
        Embeddings of two views of the same N slices.
    partition : Tensor, shape (N,), integer
        Partition of its volume that contains the slice.
    volume : Tensor, shape (N,), integer
        Volume of each slice.
    temperature : float
        τ.
    """
    similarity = _similarities(first, second, temperature)
    n = len(first)
    partition, volume = (t.to(similarity.device).repeat(2) for t in (partition, volume))
    alike = partition[:, None] == partition[None]
    slices = torch.arange(n, device=similarity.device).repeat(2)
    other_view = slices[:, None] == slices[None]
    itself = torch.eye(2 * n, dtype=torch.bool, device=similarity.device)
    positives = (other_view | (alike & (volume[:, None] != volume[None]))) & ~itself
    negatives = similarity.masked_fill(alike, -torch.inf).logsumexp(1, keepdim=True)
    terms = torch.logaddexp(similarity, negatives) - similarity
    return terms[positives].mean()


def local_contrast(
    first: Tensor, second: Tensor, negatives: Tensor, temperature: float = 0.1
) -> Tensor:
    r"""Contrast corresponding regions of two feature maps with other regions of the same image.

    Chaitanya et al. 2020, equation 3, used by Umapathy et al. 2022 for the decoder: region r of one
    view is the positive of region r of the other, and given other regions of **both** views are its
    negatives. The loss is averaged over regions, images and both directions.

    Parameters
    ----------
    first, second : Tensor, shape (N, R, D)
        Embeddings of R regions of each view; region r is at the same place of the image in both.
    negatives : Tensor, shape (N, R, K) or (R, K), integer
        The K negatives of each region; never the region itself.
    temperature : float
        τ.
    """
    if first.shape != second.shape or first.ndim != 3:
        raise ValueError(
            f"regions must have one shape (N, R, D), not {first.shape} and {second.shape}"
        )
    _check_temperature(temperature)
    n, r, _ = first.shape
    chosen = negatives.to(first.device).expand(n, r, negatives.shape[-1])

    def one_way(anchor: Tensor, other: Tensor) -> Tensor:
        between = cosine_similarity(anchor, other)
        positive = between.diagonal(dim1=1, dim2=2)[..., None]
        within = cosine_similarity(anchor, anchor).gather(2, chosen)
        logits = torch.cat([positive, within, between.gather(2, chosen)], dim=2) / temperature
        return (logits.logsumexp(2) - logits[..., 0]).mean()

    return (one_way(first, second) + one_way(second, first)) / 2


def polycl(anchor: Tensor, positive: Tensor, negative: Tensor, temperature: float) -> Tensor:
    r"""Contrast one positive with exactly one negative (PolyCL, Moseley & Imran).

    .. math:: -\log \frac{e^{s^+/\tau}}{e^{s^+/\tau} + e^{s^-/\tau}}
              = \mathrm{softplus}\left(\frac{s^- - s^+}{\tau}\right)

    Parameters
    ----------
    anchor, positive, negative : Tensor, shape (N, D)
        Embeddings of the three examples of each triplet.
    temperature : float
        τ, one over the *configured* batch size in the paper.
    """
    if not anchor.shape == positive.shape == negative.shape or anchor.ndim != 2:
        raise ValueError(
            f"embeddings must have one shape (N, D), not {anchor.shape}, {positive.shape} and "
            f"{negative.shape}"
        )
    _check_temperature(temperature)
    a, p, n = _normalized(anchor), _normalized(positive), _normalized(negative)
    margin = (a * n).sum(1) - (a * p).sum(1)
    return functional.softplus(margin / temperature).mean()


def siamese(first: Tensor, second: Tensor, same: Tensor, margin: float = 1.0) -> Tensor:
    r"""Pull pairs of the same side together, push those of opposite sides a margin apart.

    Dhere & Sivaswamy 2021, equation 1: :math:`y d^2 + (1 - y) \max(0, m - d)^2` with the
    Euclidean distance d of **each pair** and m = 1, averaged over the pairs.

    Parameters
    ----------
    first, second : Tensor, shape (N, …)
        Embeddings of the two members of N pairs; flattened.
    same : Tensor of bool, shape (N,)
        Whether both members are of the same side (y = 1).
    margin : float
        m.
    """
    if first.shape != second.shape or len(same) != len(first):
        raise ValueError(
            f"pairs must have one shape, not {first.shape}, {second.shape} and {len(same)} labels"
        )
    distance = pair_distance(first, second)
    apart = functional.relu(margin - distance)
    return torch.where(same.to(distance.device), distance, apart).square().mean()


def pair_distance(first: Tensor, second: Tensor) -> Tensor:
    """Euclidean distance of each pair of embeddings, shape (N,), with a finite gradient at 0."""
    kind = torch.promote_types(first.dtype, torch.float32)
    difference = (first.to(kind) - second.to(kind)).flatten(1)
    squared = difference.square().sum(1)
    # The root has an infinite slope at 0, the distance of equal embeddings.
    return torch.where(squared > 0, squared.clamp(min=torch.finfo(kind).tiny).sqrt(), squared)


def embedding_spread(embeddings: Tensor) -> Tensor:
    """Spread of embeddings on their sphere: 1 if uniform in all directions, 0 if all are equal.

    The standard deviation of the normalised embeddings, averaged over dimensions, times √D. Near 0
    the network has collapsed: its embeddings of all images are nearly equal.

    Parameters
    ----------
    embeddings : Tensor, shape (N, D)
    """
    spread = _normalized(embeddings).std(0, correction=0).mean()
    return spread * embeddings.shape[1] ** 0.5


def cosine_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Cosine similarities of all pairs, shape (…, N, M), of embeddings (…, N, D) and (…, M, D)."""
    # Without autocast, which would round the products to half precision.
    with torch.autocast(first.device.type, enabled=False):
        return _normalized(first) @ _normalized(second).transpose(-1, -2)


def distance_spread(embeddings: Tensor, margin: float = 1.0) -> Tensor:
    """Spread of embeddings relative to the margin of a distance loss; 0 if all are equal.

    Twice their root mean square distance from their mean over the margin, at most 1: two sides,
    each a single point, at the distance of the margin give 1.

    Parameters
    ----------
    embeddings : Tensor, shape (N, …)
        Flattened. Their directions, as in :func:`embedding_spread`, would not show distances that
        are far below the margin.
    margin : float
        m of :func:`siamese`.
    """
    flat = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)).flatten(1)
    from_mean = (flat - flat.mean(0)).square().sum(1).mean().sqrt()
    return (2 * from_mean / margin).clamp(max=1)


def _similarities(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Cosine similarities of all 2N embeddings over τ, shape (2N, 2N)."""
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(
            f"embeddings must have one shape (N, D), not {first.shape} and {second.shape}"
        )
    _check_temperature(temperature)
    both = torch.cat([first, second])
    return cosine_similarity(both, both) / temperature


def _normalized(embeddings: Tensor) -> Tensor:
    kind = torch.promote_types(embeddings.dtype, torch.float32)
    return functional.normalize(embeddings.to(kind), dim=-1)


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(f"the temperature must be above 0, not {temperature}")
