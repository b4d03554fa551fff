-- SPDX-License-Identifier: MIT
--- The rate times `factor` for each of `steps` passed: n > steps[k].
return {
  name = 'multi_factor',
  defaults = { steps = {}, factor = 1 },
  check = function(p)
    assert(#p.steps > 0, 'steps, a list of update numbers, must be given')
    for k = 2, #p.steps do
      assert(p.steps[k] > p.steps[k - 1], 'steps must be in ascending order')
    end
    assert(p.factor <= 1, 'factor must be at most 1')
  end,
  rate = function(t, p)
    local passed = 0
    for _, step in ipairs(p.steps) do passed = passed + gt(t, step) end
    return p.base_lr * p.factor ^ passed
  end,
}
