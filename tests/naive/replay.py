"""Replay: ER-ACE (Caccia 2022), DER++ (Buzzega 2020), MIR and GSS (Aljundi 2019), CLS-ER (Arani 2022), A-GEM, GDumb."""

import math
from collections import Counter

import torch
from torch import Tensor

from naive import Example, Memory, Naive


class ERACE(Naive):
    def start(self) -> None:
        self.memory, self.met = Memory(self.memories, self.rng), set[int]()

    def among(self, examples: list[Example], classes: set[int]) -> Tensor:
        z = self.z(examples)
        others = [c for c in range(z.shape[1]) if c not in classes]
        z[:, others] = -torch.inf
        return self.ce(examples, z).mean()

    def observe(self, batch: list[Example]) -> None:
        past, here = self.memory.draw(self.replay_batch_size), {e.y for e in batch}
        unmet = {c for c in range(8) if c not in self.met}
        self.met |= here
        loss = self.among(batch, here | unmet)
        if past:
            loss = loss + self.among(past, self.met)
        self.step(loss)
        self.memory.offer(batch)


class GapER(Naive):
    def start(self) -> None:
        self.memory, self.gap = Memory(self.memories, self.rng), 0.0

    def observe(self, batch: list[Example]) -> None:
        memory, kept = self.memory, self.memory.kept
        for example in batch:
            odd = False
            lots = memory.lots(example, self.batches_per_example, self.replay_batch_size)
            if alike := [one for one in lots[0][1:] if one.y == example.y]:
                new, *old = self.ce([example, *alike]).detach().clamp(max=5).tolist()
                own = new - sum(old) / len(old)
                self.gap += (own - self.gap) / 50
                odd = own > 1 + 2 * max(self.gap, 0)
                self.near(own - 1 - 2 * max(self.gap, 0))
            self.near(self.gap - self.calm, self.gap - self.conflict)
            few, conflict = len(kept) < self.few, self.gap > self.conflict
            for lot in lots[: self.batches_per_example if few and self.gap <= self.calm and not odd else 1]:
                losses = self.ce(lot)
                self.step(losses.mean() if few or odd else 0.3 * losses[0] + 0.7 * losses[1:].mean())
            if conflict and self.familiar(example, lots[:2]):
                going = int(memory.keeping.binomial(len(kept), (self.gap - self.conflict) / 50))
                self.counters["forgotten"] += going
                for _ in range(going):
                    place, last = int(memory.keeping.random() * len(kept)), kept.pop()
                    kept[place : place + 1] = [last] if place < len(kept) else []
                memory.offered = len(kept) if going else memory.offered
            memory.offer([example])

    def familiar(self, new: Example, lots: list[list[Example]]) -> bool:
        others = list({id(one): one for lot in lots for one in lot[1:]}.values())
        if len(others) < 2:
            return True
        x = torch.stack([one.x for one in others])
        apart = torch.cdist(x, x).square().fill_diagonal_(torch.inf).amin(1).quantile(0.9)
        nearest = (x - new.x).square().sum(1).min()
        self.near(nearest - apart)
        return bool(nearest <= apart)


class MIR(Naive):
    def start(self) -> None:
        self.memory = Memory(self.memories, self.rng)

    def observe(self, batch: list[Example]) -> None:
        kept, size = self.memory.kept, self.replay_batch_size
        count = min(self.candidates, len(kept))
        candidates = [kept[i] for i in self.memory.replaying.choice(len(kept), count, replace=False, shuffle=False)]
        if len(candidates) > size:
            before = self.ce(candidates).detach()
            theta = self.copy()
            self.step(self.ce(batch).mean())
            rise = self.ce(candidates).detach() - before
            with torch.no_grad():
                for part, was in zip(self.theta, theta, strict=True):
                    part.copy_(was)
            order = rise.argsort(descending=True).tolist()
            self.near((rise[order[size - 1]] - rise[order[size]]) / before.abs().max())
            candidates = [candidates[i] for i in order[:size]]
        self.step(self.ce(batch + candidates).mean())
        self.memory.offer(batch)


class GSS(Naive):
    def start(self) -> None:
        self.keeping, self.replaying = self.rng.spawn(2)
        self.kept: list[Example] = []
        self.score: list[float] = []

    def observe(self, batch: list[Example]) -> None:
        count = min(self.replay_batch_size, len(self.kept))
        past = [self.kept[int(fraction * len(self.kept))] for fraction in self.replaying.random(count)]
        self.step(self.ce(batch + past).mean())
        for example in batch:
            self.offer(example)

    def own(self, example: Example) -> Tensor:
        return torch.cat([part.flatten() for part in self.gradient(self.ce([example]).sum())])

    def offer(self, example: Example) -> None:
        count = min(self.candidates, len(self.kept))
        others = [self.kept[int(fraction * len(self.kept))] for fraction in self.keeping.random(count)]
        g = self.own(example)
        cosines = [float(torch.cosine_similarity(g, self.own(other), dim=0)) for other in others]
        c = 1 + max(cosines, default=0.0)
        if len(self.kept) < self.memories:
            self.kept.append(example)
            self.score.append(c)
            return
        self.near(c - 1)
        if c >= 1:
            return
        share, i = self.keeping.random() * sum(self.score), 0
        while share >= self.score[i]:
            share -= self.score[i]
            i += 1
        self.near(share, share - self.score[i])
        chance = self.keeping.random() - self.score[i] / (self.score[i] + c)
        self.near(chance)
        if chance < 0:
            self.kept[i], self.score[i] = example, c
            self.counters["replaced"] += 1


class CLSER(Naive):
    def start(self) -> None:
        self.chance, memory = self.rng.spawn(2)
        self.memory = Memory(self.memories, memory)
        self.stable, self.plastic = self.copy(), self.copy()

    def observe(self, batch: list[Example]) -> None:
        past = self.memory.draw(self.replay_batch_size)
        loss = self.ce(batch + past).mean()
        if past:
            scores = [self.counting(self.z(past, average), past).detach() for average in (self.stable, self.plastic)]
            stable, plastic = (z.softmax(1)[range(len(past)), [e.y for e in past]] for z in scores)
            if (stable != plastic).any():
                self.near(((stable - plastic) / stable)[stable != plastic])
            target = torch.where((stable > plastic)[:, None], *scores)
            counting = torch.isfinite(target)
            loss = loss + self.strength * ((self.z(past)[counting] - target[counting]) ** 2).mean()
        self.step(loss)
        fractions = self.chance.random(2)
        for name, fraction in zip(("stable", "plastic"), fractions, strict=True):
            if fraction < self.settings[f"{name}_rate"]:
                d = self.settings[f"{name}_decay"]
                average = [d * a + (1 - d) * b for a, b in zip(getattr(self, name), self.copy(), strict=True)]
                setattr(self, name, average)
                self.counters[f"{name} updates"] += 1
        self.memory.offer(batch)

    def answers(self, examples: list[Example]) -> Tensor:
        return self.z(examples, self.stable)


class DERPP(Naive):
    """Equations 5 and 6."""

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


class AGEM(Naive):
    """Chaudhry et al. 2019, equation 11."""

    def start(self) -> None:
        self.ring: list[list[Example]] = [[] for _ in range(self.tasks)]

    def begin_task(self, task: int, previous: int | None) -> None:
        # In the order of the table: a full ring is overwritten from its start.
        per_task = self.memories // self.tasks
        self.past = []
        for ring in (ring for other, ring in enumerate(self.ring) if other != task):
            slots = dict(enumerate(ring[:per_task]))
            slots.update({place % per_task: example for place, example in enumerate(ring)})
            self.past += list(slots.values())

    def observe(self, batch: list[Example]) -> None:
        g = self.gradient(self.ce(batch).mean())
        fractions = self.rng.random(min(self.replay_batch_size, len(self.past)))
        if len(fractions):
            drawn = [self.past[int(fraction * len(self.past))] for fraction in fractions]
            reference = self.gradient(self.ce(drawn).mean())
            product, square = (sum((a * b).sum() for a, b in zip(x, reference, strict=True)) for x in (g, reference))
            self.near(product / square)
            if product < 0:
                g = [a - product / square * b for a, b in zip(g, reference, strict=True)]
                self.counters["projections"] += 1
        self.descend(g)
        for example in batch:
            self.ring[example.task].append(example)


class GDumb(Naive):
    """Prabhu et al. 2020, Algorithm 1."""

    def start(self) -> None:
        self.keeping, self.fitting = self.rng.spawn(2)
        self.initial = self.copy()
        self.kept: list[Example] = []

    def observe(self, batch: list[Example]) -> None:
        for example in batch:
            counts = Counter(e.y for e in self.kept)
            most = max(counts.values(), default=0)
            if len(self.kept) < self.memories:
                self.kept.append(example)
            elif counts[example.y] < most:
                largest = min(y for y, count in counts.items() if count == most)
                places = [i for i, e in enumerate(self.kept) if e.y == largest]
                self.kept[places[int(self.keeping.random() * len(places))]] = example
                self.counters["replaced"] += 1

    def answers(self, examples: list[Example]) -> Tensor:
        lr, before = self.settings["lr"], self.fitting.bit_generator.state
        theta = [part.clone().requires_grad_() for part in self.initial]
        self.theta, now = theta, self.theta
        for p in range(self.passes):
            angle = math.pi * p / (self.passes - 1)
            rate = lr / 100 + (lr - lr / 100) * (1 + math.cos(angle)) / 2
            order = [self.kept[i] for i in self.fitting.permutation(len(self.kept))]
            for begin in range(0, len(order), self.fit_batch_size):
                self.settings = self.settings | {"lr": rate}
                self.step(self.ce(order[begin : begin + self.fit_batch_size]).mean())
        self.settings = self.settings | {"lr": lr}
        z = self.z(examples)
        self.theta = now
        self.fitting.bit_generator.state = before  # what is done to be tested is undone
        return z
