-- SPDX-License-Identifier: MIT
--- Stochastic gradient descent, with momentum (Polyak, 1964) if that is not 0. Without it no
-- state is kept, and none costs time; `mom` begins when momentum is first set.
return {
  name = 'sgd',
  defaults = { learning_rate = 0.01, momentum = 0, lazy_update = true },
  state = { 'mom' },
  update = function(w, g, s, p)
    g = clip(g * p.rescale_grad, p.clip_gradient) + p.wd * w
    if is_zero(p.momentum) then return w - p.learning_rate * g end
    s.mom = p.momentum * s.mom - p.learning_rate * g
    return w + s.mom
  end,
}
