# %% [markdown]
# # A method of your own
#
# A method is a class: its settings, and what it does with each batch. `rows` are slots of the learner's table of examples.

# %%
import numpy as np

import metareplay


class Replay(metareplay.Method):
    """Experience replay: one SGD step on the batch and on memories drawn from a reservoir."""

    lr: float = metareplay.setting(0.1, "(0, inf)", help="the learning rate of every SGD step")
    memories: int = metareplay.setting(200, "[0, inf)", help="the examples that the reservoir holds")

    def capacity(self, tasks, batch_size):
        return self.memories

    def start(self, learner, rng, tasks):
        self.learner = learner
        self.memory = metareplay.Reservoir(learner, rng)

    def observe(self, rows):
        past = self.memory.draw(1, 10)[0]
        self.learner.sgd(np.append(rows, past), self.lr)
        for row in rows:
            self.memory.offer(row)


# %% [markdown]
# How many memories does it take? A hundred examples of each task are enough to see it.

# %%
stream = metareplay.benchmark("digits-rotations", samples_per_task=300)
for memories in (0, 20, 200):
    record = metareplay.run(stream, Replay(memories=memories))
    print(memories, record)

# %%
record.plot()

# %% [markdown]
# A mistake is reported in words.

# %%
try:
    Replay(lr=-1)
except metareplay.BadInput as error:
    print(error)

# %% [markdown]
# [The whole way](../own-method.md) leads from here to losses, update rules, checks and a study.
