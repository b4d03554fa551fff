# SPDX-License-Identifier: MIT
"""Weights and learning rates as MXNet 1.9.1 computes them, for optim_mxnet_spec.lua.

MXNet is no longer made, and only this file needs it, so its results are kept beside this file:

    python3.11 -m venv /tmp/mxnet
    /tmp/mxnet/bin/pip install mxnet==1.9.1 numpy==1.23.5
    /tmp/mxnet/bin/python spec/lua/golden/mxnet_optim.py > spec/lua/golden/mxnet_optim.lua

DIFFERS says what MXNet does otherwise than the papers, which Neap follows: that is left out.
`--all` keeps it, to see by how much.
"""
import sys

import mxnet as mx
import numpy as np

SHAPE, STEPS, KEPT = (3, 2), 20, (1, 3, 20)


def gradient(t):
    r, c = np.mgrid[1:SHAPE[0] + 1, 1:SHAPE[1] + 1]
    return (((t * 7919 + r * 104729 + c * 1299709) % 257 - 128) / 128).astype('float32')


def present(t):
    return [r - 1 for r in range(1, SHAPE[0] + 1) if (t * 3 + r) % 4 < 2]


# Name in Neap and settings there; name in MXNet and settings there.
CASES = [
    ('test', {}, 'test', {}),
    ('sgd', {}, 'sgd', {}),
    ('sgd', {'momentum': 0.9}, 'sgd', {'momentum': 0.9}),
    ('nag', {'learning_rate': 0.1}, 'nag', {'learning_rate': 0.1, 'momentum': 0.9}),
    ('signum', {'wd_lh': 0.01, 'momentum': 0.87}, 'signum', {'wd_lh': 0.01, 'momentum': 0.87}),
    ('signum', {'momentum': 0}, 'signum', {'momentum': 0}),
    ('dcasgd', {}, 'dcasgd', {'learning_rate': 0.1}),
    ('adam', {}, 'adam', {}),
    ('adamax', {}, 'adamax', {}),
    ('nadam', {}, 'nadam', {}),
    ('adagrad', {}, 'adagrad', {'learning_rate': 0.01, 'eps': 1e-6}),
    ('group_adagrad', {}, 'groupadagrad', {'learning_rate': 0.01, 'eps': 1e-6}),
    ('adadelta', {}, 'adadelta', {'learning_rate': 1, 'epsilon': 1e-6}),
    ('rmsprop', {}, 'rmsprop', {'gamma1': 0.9}),
    ('rmsprop', {'centered': True}, 'rmsprop', {'gamma1': 0.9, 'centered': True}),
    ('rmsprop', {'clip_weights': 1.2}, 'rmsprop', {'gamma1': 0.9, 'clip_weights': 1.2}),
    ('ftrl', {}, 'ftrl', {'learning_rate': 0.1}),
    ('ftml', {}, 'ftml', {'learning_rate': 0.0025}),
    ('lamb', {}, 'lamb', {}),
    ('lamb', {'lower_bound': 9}, 'lamb', {'lower_bound': 9}),
    ('lamb', {'upper_bound': 0.5}, 'lamb', {'upper_bound': 0.5}),
    ('lamb', {'bias_correction': False}, 'lamb', {'bias_correction': False}),
    ('lars', {}, 'lars', {'learning_rate': 0.1, 'eps': 1e-8}),
    ('lars', {'momentum': 0.9}, 'lars',
     {'learning_rate': 0.1, 'momentum': 0.9, 'eps': 1e-8, 'momentum_correction': False}),
]

# What each is tried with; these settings have the same names on both sides.
WITH = {
    'plain': {},
    'decay': {'wd': 0.03},
    'clipping': {'rescale_grad': 0.75, 'clip_gradient': 0.3},
    'both': {'wd': 0.03, 'rescale_grad': 0.75, 'clip_gradient': 0.3},
    'multipliers': {'wd': 0.06},  # and a schedule: see run()
}
MULTIPLIERS = {'lr_mult': 0.5, 'wd_mult': 0.25}
SCHEDULE = {'base_lr': 0.1, 'final_lr': 0.02, 'max_update': 15, 'warmup_steps': 4}

# Where rows that are absent from a gradient are left alone on both sides.
LAZY = ('sgd', 'adam', 'ftrl')

# What MXNet computes otherwise: name, what it shows with, why.
AFTER_DECAY = 'clips the gradient with the decay already in it'
DIFFERS = {
    'nag': (('decay', 'both', 'multipliers'), 'the momentum gets the decay of the updated weight'),
    'dcasgd': (('decay', 'both'), 'the decay is not compensated; with momentum it '
               'raises an error'),
    'adam': (('both',), AFTER_DECAY),
    'adamax': (('both',), AFTER_DECAY),
    'nadam': (('both',), AFTER_DECAY),
    'rmsprop': (('both',), AFTER_DECAY),
    'ftml': (('both',), AFTER_DECAY),
    'adagrad': (('decay', 'both', 'multipliers'), 'the decay does not enter the history'),
    'adadelta': (('decay', 'both', 'multipliers'), 'no learning rate; the decay stands beside the '
                 'step'),
}
# Nor are there adamw, adabelief and lans, which this version does not have, and sgld, whose noise
# is another. What lars does to the momentum when the rate changes is switched off.

SCHEDULES = [
    ('factor', {'step': 3, 'factor': 0.5, 'base_lr': 0.8, 'stop': 0.15},
     mx.lr_scheduler.FactorScheduler,
     {'step': 3, 'factor': 0.5, 'base_lr': 0.8, 'stop_factor_lr': 0.15}),
    ('multi_factor', {'steps': [2, 7], 'factor': 0.1, 'base_lr': 0.8},
     mx.lr_scheduler.MultiFactorScheduler,
     {'step': [2, 7], 'factor': 0.1, 'base_lr': 0.8}),
    ('poly', {'max_update': 15, 'base_lr': 0.8}, mx.lr_scheduler.PolyScheduler, None),
    ('poly', SCHEDULE, mx.lr_scheduler.PolyScheduler, None),
    ('cosine', {'max_update': 15, 'base_lr': 0.8, 'final_lr': 0.1},
     mx.lr_scheduler.CosineScheduler, None),
    ('cosine', {'max_update': 15, 'base_lr': 0.8, 'warmup_steps': 5, 'warmup_begin_lr': 0.2},
     mx.lr_scheduler.CosineScheduler, None),
]


def run(name, settings, title, lazy):
    """The weights after the steps of KEPT, or None where MXNet cannot do it."""
    settings = dict(settings, **WITH[title])
    if title == 'multipliers':
        settings['lr_scheduler'] = mx.lr_scheduler.PolyScheduler(**SCHEDULE)
        settings['learning_rate'] = SCHEDULE['base_lr']  # else a class's own default wins
        optimizer = mx.optimizer.create(name, **settings)
        optimizer.set_lr_mult({0: MULTIPLIERS['lr_mult']})
        optimizer.set_wd_mult({0: MULTIPLIERS['wd_mult']})
    else:
        optimizer = mx.optimizer.create(name, **settings)
    weight = mx.nd.array(0.5 + np.arange(1, SHAPE[0] * SHAPE[1] + 1).reshape(SHAPE) / 16)
    if lazy:
        weight = weight.tostype('row_sparse')
    state = optimizer.create_state(0, weight)
    kept = []
    for t in range(1, STEPS + 1):
        if lazy:
            rows = present(t)
            g = mx.nd.sparse.row_sparse_array((gradient(t)[rows], rows), shape=SHAPE)
        else:
            g = mx.nd.array(gradient(t))
        optimizer.update(0, weight, g, state)
        if t in KEPT:
            kept.append(weight.tostype('default').asnumpy().ravel())
    return kept


def lua(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return '{ ' + ', '.join(map(lua, value)) + ' }'
    if isinstance(value, dict):
        pairs = ', '.join('%s = %s' % (k, lua(v)) for k, v in value.items())
        return '{ %s }' % pairs if pairs else '{}'
    return "'%s'" % value if isinstance(value, str) else '%.9g' % value


def main():
    everything = '--all' in sys.argv
    print('-- SPDX-License-Identifier: MIT')
    print('--- Made by mxnet_optim.py with MXNet %s: do not edit. Left out, as MXNet differs:' %
          mx.__version__)
    for name, (titles, why) in DIFFERS.items():
        print('-- %s with %s: %s' % (name, ', '.join(titles), why))
    print('return {\n  shape = %s,\n  kept = %s,' % (lua(list(SHAPE)), lua(list(KEPT))))
    print('  multipliers = %s,\n  schedule = %s,' % (lua(MULTIPLIERS), lua(SCHEDULE)))
    print('  schedules = { -- the rates at the first %d updates' % STEPS)
    for name, settings, make, theirs in SCHEDULES:
        scheduler = make(**(theirs or settings))
        print("    { '%s', %s," % (name, lua(settings)))
        rates = [scheduler(t) for t in range(1, STEPS + 1)]
        lines = [', '.join('%.8g' % x for x in rates[i:i + 5]) for i in range(0, STEPS, 5)]
        print('      { %s } },' % ',\n        '.join(lines))
    print('  },\n  weights = { -- after the updates `kept`')
    for name, settings, theirs, their_settings in CASES:
        for title, more in WITH.items():
            if title in DIFFERS.get(name, ((), ''))[0] and not everything:
                continue
            if name == 'group_adagrad' and 'wd' in more:
                continue  # it has none
            for lazy in (False, True) if name in LAZY else (False,):
                ours = dict(settings, **more)
                if title == 'multipliers':
                    ours['learning_rate'] = SCHEDULE['base_lr']
                print("    { '%s', '%s', '%s',\n      %s," %
                      (name, title, 'lazy' if lazy else 'dense', lua(ours)))
                for row in run(theirs, their_settings, title, lazy):
                    print('      { %s },' % ', '.join('%.8g' % x for x in row))
                print('    },')
    print('  },\n}')


main()
