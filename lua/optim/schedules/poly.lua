-- SPDX-License-Identifier: MIT
--- From base_lr down to `final_lr` by a power of what is left of `max_update`.
return {
  name = 'poly',
  defaults = { max_update = false, power = 2, final_lr = 0 },
  check = function(p)
    assert(p.max_update and p.max_update > p.warmup_steps,
      'max_update, the number of updates after which the rate stays, must be given')
  end,
  rate = function(t, p)
    local done = (min(t, p.max_update) - p.warmup_steps) / (p.max_update - p.warmup_steps)
    return p.final_lr + (p.base_lr - p.final_lr) * (1 - done) ^ p.power
  end,
}
