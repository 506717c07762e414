"""Cases of tasks with data and networks of a plug-in: their plans need permission to run code."""

from __future__ import annotations

from task_cases import TaskCase

#: With the data sets and the network of `tests/helpers/task_plugins.py`.
PLUGIN_CASES = (
    TaskCase("regress", 'model small-cnn width=0.5\ndata "task_plugins:spots"\ntrain 3ep batch=32 lr=0.01'),
    TaskCase(
        "classify",
        'model "task_plugins:reader"\ndata "task_plugins:words"\ntrain 3ep batch=32 lr=0.1',
        units=("weights", "neurons"),
    ),
)
