-- SPDX-License-Identifier: MIT
--- The rate times `factor` for each whole `step` of updates passed: n > k * step; never below
-- `stop`.
return {
  name = 'factor',
  defaults = { step = false, factor = 1, stop = 1e-8 },
  check = function(p)
    assert(p.step and p.step >= 1, 'step, the updates between two changes, must be given')
    assert(p.factor <= 1, 'factor must be at most 1')
  end,
  rate = function(t, p)
    local passed = max(floor((t - 1) / p.step), 0)
    return where(gt(passed, 0), max(p.base_lr * p.factor ^ passed, p.stop), p.base_lr)
  end,
}
