# SPDX-License-Identifier: MIT
"""How long torch's optimizers take for one step, for optim_bench.lua.

    python3 torch_optim.py THREADS ELEMENTS ROUNDS REPEATS

Prints the version, then for each rule its name, the median of the seconds a step takes, and the
way (torch has several) that is fastest here. One float32 parameter; settings as in the bench.
"""
import inspect
import sys
import time

import torch

threads, elements, rounds, repeats = map(int, sys.argv[1:])
torch.set_num_threads(threads)

RULES = {
    'sgd_mom': (torch.optim.SGD, {'lr': 0.1, 'momentum': 0.9, 'weight_decay': 1e-4}),
    'adam': (torch.optim.Adam, {'lr': 1e-3, 'weight_decay': 1e-4}),
    'amsgrad': (torch.optim.Adam, {'lr': 1e-3, 'weight_decay': 1e-4, 'amsgrad': True}),
}


def seconds(make, settings):
    weight = torch.nn.Parameter(torch.rand(elements) * 2 - 1)
    weight.grad = torch.rand(elements) * 2 - 1
    optimizer = make([weight], **settings)
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        for _ in range(repeats):
            optimizer.step()
        times.append((time.perf_counter() - start) / repeats)
    return sorted(times[1:])[rounds // 2]


print(torch.__version__)
for name, (make, settings) in RULES.items():
    found = []
    known = inspect.signature(make).parameters
    for way in ('plain', 'foreach', 'fused'):
        more = {} if way == 'plain' else {way: True}
        if way == 'plain' and 'foreach' in known:
            more = {'foreach': False}
        elif way != 'plain' and way not in known:
            continue
        try:
            found.append((seconds(make, dict(settings, **more)), way))
        except (RuntimeError, ValueError):
            pass  # this version has it for other devices only
    print(name, *min(found))
