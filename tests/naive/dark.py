"""Dark experience replay (Buzzega et al. 2020), equations 5 and 6."""

import torch

from naive import Example, Memory, Naive


class DERPP(Naive):
    def start(self) -> None:
        self.memory = Memory(self.memories, self.rng)

    def observe(self, batch: list[Example]) -> None:
        past = self.memory.draw(self.replay_batch_size)
        again = self.memory.draw(self.replay_batch_size) if "beta" in self.settings else []
        z = self.z(batch)
        loss = self.ce(batch, z).mean()
        if past:
            loss = loss + self.alpha * ((self.z(past) - torch.stack([e.z for e in past])) ** 2).mean()
        if again:
            loss = loss + self.settings["beta"] * self.ce(again).mean()
        for example, scores in zip(batch, z.detach(), strict=True):
            example.z = scores
        self.step(loss)
        self.memory.offer(batch)
