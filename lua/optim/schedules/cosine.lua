-- SPDX-License-Identifier: MIT
--- From base_lr down to `final_lr` by half a wave (Loshchilov & Hutter, 2017, without restarts).
return {
  name = 'cosine',
  defaults = { max_update = false, final_lr = 0 },
  check = function(p)
    assert(p.max_update and p.max_update > p.warmup_steps,
      'max_update, the number of updates after which the rate stays, must be given')
  end,
  rate = function(t, p)
    local done = (min(t, p.max_update) - p.warmup_steps) / (p.max_update - p.warmup_steps)
    return p.final_lr + (p.base_lr - p.final_lr) * (1 + cos(math.pi * done)) / 2
  end,
}
