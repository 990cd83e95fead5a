"""Averaged gradient episodic memory (Chaudhry et al. 2019), equation 11."""

from naive import Example, Naive


class AGEM(Naive):
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
