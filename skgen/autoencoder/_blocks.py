"""Work in blocks of one size, whatever the number of items."""

import torch

# Numbers in the largest array of a block, at most; items in one; and items times
# weights, since few rows pay for a whole block.
BLOCK_NUMBERS, BLOCK_ITEMS, BLOCK_WORK = 2**20, 2048, 2**23


def by_blocks(function, size, *parts):
    """Apply a function to items in blocks of one size, the last one padded.

    Products of matrices of another size round otherwise: equal blocks give a row the
    same answer beside any other rows, but for a last bit.
    """
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
