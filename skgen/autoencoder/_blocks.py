"""Computation in blocks of a fixed size."""

import torch

# Limits of a block: entries of its largest array, its items, and its items times the
# weights of the network. The last one is there because a block is padded: even a single
# row costs a whole block.
BLOCK_NUMBERS, BLOCK_ITEMS, BLOCK_WORK = 2**20, 2048, 2**23


def by_blocks(function, size, *parts):
    """Apply `function` to arrays (n, ...) in padded blocks of `size` items.

    Return the list of its outputs (n, ...).
    """
    # The rounding of a matrix product depends on its size. With blocks of equal size,
    # the result for a row depends on the other rows in the last bit at most.
    n = parts[0].shape[0]
    answers = []
    for start in range(0, n, size):
        block = [part[start : start + size] for part in parts]
        missing = size - block[0].shape[0]
        if missing:
            block = [
                torch.cat([part, part[:1].expand(missing, *part.shape[1:])])
                for part in block
            ]
        answer = function(*block)
        answers.append([part[: size - missing] for part in answer])
    return [torch.cat(part) for part in zip(*answers, strict=True)]
