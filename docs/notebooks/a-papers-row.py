# %% [markdown]
# # Reproduce a paper's row
#
# The settings that were published with MER are the defaults: a request names a benchmark, a method, and how many memories.
# Here it is the row of `eralg4` on small digits, whose settings were chosen on training images. For the paper's own rows
# write `mnist-rotations`, which fetches MNIST; [results](../results.md) has all of them.

# %%
from metareplay import Trainer
from metareplay.results.groups import groups
from metareplay.runs.request import Request

requests = [Request("digits-rotations", "eralg4", {"memories": 200}, run={"seed": seed}) for seed in range(3)]
settings, note = requests[0].defaults()
settings

# %% [markdown]
# One seed is an anecdote: a row is a mean over seeds, with an interval.

# %%
records = [Trainer(request.experiment()).train() for request in requests]
(group,) = groups(records)
for metric in ("retained_accuracy", "learning_accuracy", "backward_transfer"):
    found = group.interval(metric)
    print(f"{metric:<20}{100 * found.mean:6.1f} ± {100 * found.half_width:.1f}")

# %%
records[0].plot()

# %% [markdown]
# The same on the command line, kept on the disk: `metareplay suite digits`, then `metareplay results`.
