"""What the semantic step costs as the authors' code does it: a loop over topics, one small PyTorch network each.

Written from the equations of the reference variant, for comparison alone (benchmarks/semantic_step.py, gpu_step.py). It
needs PyTorch (`pip install torch==2.13.0`), which the library itself does not.
"""

import torch
from torch import nn


class TopicLoop:
    """J receptors, each a network of its own, trained and differentiated one after another.

    Args:
        depth: d.
        num_topics: J.
        width: h.
        l1: weight of the L1 norm of a receptor's first layer.
        device: of PyTorch.
    """

    def __init__(self, depth, num_topics, width=128, l1=0.5, device="cpu"):
        self.l1, self.num_topics = l1, num_topics
        self.receptors = [
            nn.Sequential(nn.Linear(depth, width), nn.ReLU(), nn.Linear(width, 1)).to(device) for _ in range(num_topics)
        ]

    def load(self, hidden_kernel, hidden_bias, output_kernel, output_bias):
        """Takes the weights of `TopicReceptors`: NumPy arrays (J, d, h), (J, h), (J, h, 1), (J, 1)."""
        for number, receptor in enumerate(self.receptors):
            values = (hidden_kernel[number].T, hidden_bias[number], output_kernel[number].T, output_bias[number])
            for parameter, value in zip(receptor.parameters(), values):
                with torch.no_grad():
                    parameter.copy_(torch.from_numpy(value.copy()))

    def step(self, features, embeddings, sources):
        """One step's losses and gradients.

        Args:
            features: (n, d) float32 tensor that requires a gradient, source rows first.
            embeddings: (n, J) float32 tensor.
            sources: number of source rows.

        Returns:
            (receptor loss, alignment), detached scalars; `features.grad` is the alignment's gradient, the receptors'
            parameters hold the receptor loss's.
        """
        count, depth = features.shape
        features.grad = None
        losses, attentions = [], []
        for number, receptor in enumerate(self.receptors):
            receptor.zero_grad(set_to_none=True)
            inputs = features.detach().clone().requires_grad_(True)
            error = (receptor(inputs)[:, 0] - embeddings[:, number].detach()).square().mean()
            penalty = receptor[0].weight.abs().sum() + receptor[0].bias.abs().sum()
            loss = (error + self.l1 * penalty) / self.num_topics
            loss.backward()
            losses.append(loss.detach())
            attentions.append(inputs.grad.abs())
        alignment = 0.0
        for attention in attentions:
            masked = features * (attention * (count / attention.norm()))
            difference = masked[:sources].mean(dim=0) - masked[sources:].mean(dim=0)
            alignment = alignment + difference.square().mean()
        alignment.backward()
        return torch.stack(losses).sum(), alignment.detach()
