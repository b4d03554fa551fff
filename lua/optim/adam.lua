-- SPDX-License-Identifier: MIT
--- Adam (Kingma & Ba, 2015, algorithm 1, with the bias folded into the rate).
return {
  name = 'adam',
  defaults = { learning_rate = 0.001, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8 },
  state = { 'mean', 'var' },
  update = function(w, g, s, p)
    g = clip(g * p.rescale_grad, p.clip_gradient) + p.wd * w
    s.mean = p.beta1 * s.mean + (1 - p.beta1) * g
    s.var  = p.beta2 * s.var + (1 - p.beta2) * g * g
    local rate = p.learning_rate * sqrt(1 - p.beta2 ^ p.t) / (1 - p.beta1 ^ p.t)
    return w - rate * s.mean / (sqrt(s.var) + p.epsilon)
  end,
}
