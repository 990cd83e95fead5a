# %% [markdown]
# # A stream that never ends
#
# In `digits-input-permuted` the pixels come in another order in each task, for as many tasks as you like: each is made when
# it comes. Nothing is tested on the way. What counts is the online accuracy, on each example before it is learned.

# %%
import metareplay
from metareplay.runs.metrics import running_online_accuracy

stream = metareplay.benchmark("digits-input-permuted", tasks=20)
stream

# %%
record = metareplay.run(stream, metareplay.Online(lr=0.01), evaluate="never")
curve = running_online_accuracy(record)
for at, value in list(zip(curve.at, curve.values, strict=True))[:: len(curve.at) // 8]:
    print(f"{at:>6} examples  {'█' * round(40 * value)} {100 * value:.0f} %")

# %% [markdown]
# A classifier for a stream of your own needs no tasks at all: examples come, and it is asked about each before it learns it.

# %%
import numpy as np

from metareplay.estimators import ContinualClassifier

rng = np.random.default_rng(0)
model, right = ContinualClassifier(random_state=0), []
for hour in range(60):
    x = rng.normal(size=(20, 5))
    y = (x[:, 0] > 0).astype(int) + 2 * (hour >= 30)  # new classes come in the thirtieth hour, unannounced
    if hour:
        right.append((model.predict(x) == y).mean())
    model.partial_fit(x, y)
print("hours 25 to 29:", np.round(right[24:29], 2), " 30 to 34:", np.round(right[29:34], 2), " last:", right[-1])
assert set(model.classes_) == {0, 1, 2, 3}
