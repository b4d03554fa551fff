-- SPDX-License-Identifier: MIT
--- Delay-compensated asynchronous SGD (Zheng et al., 2017): `previous` is the weight that the
--- last update saw.
return {
  name = 'dcasgd',
  defaults = { learning_rate = 0.1, momentum = 0, lamda = 0.04, lazy_update = false },
  state = { 'mom', previous = 'weight' },
  update = function(w, g, s, p)
    g = clip(g * p.rescale_grad, p.clip_gradient) + p.wd * w
    local d = g + p.lamda * g * g * (w - s.previous)
    s.previous = w
    s.mom = p.momentum * s.mom - p.learning_rate * d
    return w + s.mom
  end,
}
