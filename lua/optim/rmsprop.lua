-- SPDX-License-Identifier: MIT
--- RMSProp (Tieleman & Hinton, 2012); centered, about the mean and with momentum (Graves, 2013).
--- clip_weights bounds the weights themselves.
return {
  name = 'rmsprop',
  defaults = { learning_rate = 0.001, rho = 0.9, momentum = 0.9, epsilon = 1e-8,
    centered = false, clip_weights = false, lazy_update = false },
  state = { 'var', 'mean', 'delta' }, -- the last two if centered
  update = function(w, g, s, p)
    g = clip(g * p.rescale_grad, p.clip_gradient) + p.wd * w
    s.var = p.rho * s.var + (1 - p.rho) * g * g
    if p.centered then
      s.mean = p.rho * s.mean + (1 - p.rho) * g
      s.delta = p.momentum * s.delta
        - p.learning_rate * g / sqrt(s.var - s.mean * s.mean + p.epsilon)
      return clip(w + s.delta, p.clip_weights)
    end
    return clip(w - p.learning_rate * g / (sqrt(s.var) + p.epsilon), p.clip_weights)
  end,
}
