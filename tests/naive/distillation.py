"""Learning without forgetting (Li and Hoiem 2016), equations 2 to 4."""

from naive import Example, Naive


class LwF(Naive):
    def start(self) -> None:
        self.old, self.met, self.seen = self.copy(), [], set()

    def begin_task(self, task: int, previous: int | None) -> None:
        if previous is not None and previous != task:
            self.old, self.met = self.copy(), sorted(self.seen)

    def observe(self, batch: list[Example]) -> None:
        z = self.z(batch)
        loss = self.ce(batch, z).mean()
        if self.met:
            before = (self.z(batch, self.old)[:, self.met].detach() / self.temperature).softmax(1)
            now = (z[:, self.met] / self.temperature).log_softmax(1)
            loss = loss - self.strength * self.temperature**2 * (before * now).sum(1).mean()
            self.counters["examples distilled"] += len(batch)
        self.step(loss)
        self.seen |= {e.y for e in batch}
