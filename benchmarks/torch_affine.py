"""Shift, zoom and turns of images in PyTorch, as training/affine.py has them: for `--peer`."""

import math

import torch
from torch.nn import functional


def warp(image: torch.Tensor, matrix: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """Returns training.affine.warp of images (b, c, h, w): `matrix` (b, 2, 2) and `offset` (b, 2), rows before columns, px."""
    half = torch.tensor([(side - 1) / 2 for side in image.shape[2:]], device=image.device)
    linear = (matrix * half[None, None, :] / half[None, :, None]).flip(1, 2)  # PyTorch: columns first, the border at -1 and 1
    theta = torch.cat([linear, (offset / half).flip(1)[:, :, None]], 2)
    grid = functional.affine_grid(theta, list(image.shape), align_corners=True)
    return functional.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=True)


def augment(image: torch.Tensor, train) -> torch.Tensor:
    """Returns images after shift, zoom and turn of the config's strengths, each by its own draw; unchanged where they are all 0."""
    if not any((train.shift, train.zoom, train.turn)):
        return image
    draws = 2.0 * torch.rand(4, len(image), device=image.device) - 1.0
    shift = train.shift * draws[:2].T * torch.tensor(image.shape[2:], device=image.device)
    scale, angle = torch.exp(-train.zoom * draws[2]), math.radians(train.turn) * draws[3]
    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    return warp(image, torch.stack([torch.stack([cos, sin], 1), torch.stack([-sin, cos], 1)], 1), shift)
