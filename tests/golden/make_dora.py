#!/usr/bin/env python3
"""A linear layer with a DoRA adapter of the peft library: output and gradients -> data/dora.safetensors.

Versions that made the file in the tree: peft 0.21.2, torch 2.15.0. Run: make_dora.py
"""
import os

import peft
import torch
from safetensors.torch import save_file

torch.manual_seed(11)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = torch.nn.Linear(24, 18)

    def forward(self, x):
        return self.lin(x)


net = Net()
m = peft.get_peft_model(net, peft.LoraConfig(r=5, lora_alpha=7, target_modules=["lin"], use_dora=True))
lin = m.base_model.model.lin
a, b, mag = lin.lora_A["default"].weight, lin.lora_B["default"].weight, lin.lora_magnitude_vector["default"].weight
out = {"magnitude_at_first": mag.detach().clone()}
with torch.no_grad():
    b.normal_(0, 0.3)
    mag.mul_(0.5 + torch.rand_like(mag))
x, dy = torch.randn(7, 24, requires_grad=True), torch.randn(7, 18)
y = m(x)
y.backward(dy)
out |= {"w": lin.base_layer.weight, "bias": lin.base_layer.bias, "a": a, "b": b, "magnitude": mag, "x": x, "y": y, "dy": dy, "da": a.grad, "db": b.grad, "dmagnitude": mag.grad, "dx": x.grad}
folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
save_file({k: v.detach().contiguous() for k, v in out.items()}, os.path.join(folder, "dora.safetensors"), {"peft": peft.__version__, "torch": torch.__version__})
print("peft", peft.__version__, "torch", torch.__version__)
