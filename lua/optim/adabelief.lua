-- SPDX-License-Identifier: MIT
--- AdaBelief (Zhuang et al., 2020): the variance is that of the gradient about its mean.
return {
  name = 'adabelief',
  defaults = { learning_rate = 0.001, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-6,
    lazy_update = false },
  state = { 'mean', 'var' },
  update = function(w, g, s, p)
    g = clip(g * p.rescale_grad + p.wd * w, p.clip_gradient)
    s.mean = p.beta1 * s.mean + (1 - p.beta1) * g
    local off = g - s.mean
    s.var = p.beta2 * s.var + (1 - p.beta2) * off * off + p.epsilon
    local rate = p.learning_rate * sqrt(1 - p.beta2 ^ p.t) / (1 - p.beta1 ^ p.t)
    return w - rate * s.mean / (sqrt(s.var) + p.epsilon)
  end,
}
