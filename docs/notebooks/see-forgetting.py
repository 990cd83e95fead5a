# %% [markdown]
# # See forgetting
#
# Ten tasks of handwritten digits, each turned by another angle, come one after another; each example is seen once.

# %%
import metareplay

stream = metareplay.benchmark("digits-rotations")
stream

# %% [markdown]
# Plain online learning takes one step on each example. On the diagonal of the matrix below stands what it had just learned;
# to the left of it, what is left of what came before.

# %%
online = metareplay.run(stream, metareplay.Online(lr=0.1))
online

# %% [markdown]
# Meta-Experience Replay sees the same examples in the same order. It keeps 200 of them, and steps where new and replayed
# examples agree.

# %%
mer = metareplay.run(stream, metareplay.MER(lr=0.03, beta=0.1, memories=200))
mer

# %%
mer.plot()

# %% [markdown]
# Retained accuracy is the mean of the last row; what was lost on the way is backward transfer and interference.

# %%
for name, record in (("online", online), ("MER", mer)):
    metrics = record.metrics
    retained, change = metrics["retained_accuracy"], metrics["backward_transfer"]
    print(f"{name}: {100 * retained:.1f} % retained, {100 * change:+.1f} points since learned")
assert mer.metrics["retained_accuracy"] > online.metrics["retained_accuracy"] + 0.2
