-- SPDX-License-Identifier: MIT
--- Signum: the sign of the momentum (Bernstein et al., 2018). wd_lh is the decay of Loshchilov &
--- Hutter, beside the gradient; without momentum, wd is applied so too.
return {
  name = 'signum',
  defaults = { learning_rate = 0.01, momentum = 0.9, wd_lh = 0, lazy_update = false },
  state = { 'mom' },
  update = function(w, g, s, p)
    g = clip(g * p.rescale_grad, p.clip_gradient)
    if is_zero(p.momentum) then
      return (1 - p.learning_rate * (p.wd + p.wd_lh)) * w - p.learning_rate * sign(g)
    end
    s.mom = p.momentum * s.mom - (1 - p.momentum) * (g + p.wd * w)
    return (1 - p.learning_rate * p.wd_lh) * w + p.learning_rate * sign(s.mom)
  end,
}
