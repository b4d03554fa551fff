-- SPDX-License-Identifier: MIT
--- Nesterov's accelerated gradient, in the form that keeps the looked-ahead weight (Sutskever et
--- al., 2013; Bengio et al., 2013).
return {
  name = 'nag',
  defaults = { learning_rate = 0.1, momentum = 0.9, lazy_update = false },
  state = { 'mom' },
  update = function(w, g, s, p)
    g = clip(g * p.rescale_grad, p.clip_gradient) + p.wd * w
    s.mom = p.momentum * s.mom - p.learning_rate * g
    return w + p.momentum * s.mom - p.learning_rate * g
  end,
}
