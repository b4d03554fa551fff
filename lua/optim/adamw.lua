-- SPDX-License-Identifier: MIT
--- Adam with decoupled weight decay (Loshchilov & Hutter, 2019, algorithm 2). The decay is
--- learning_rate * wd * w, as in the paper; MXNet applies the bias-corrected rate to it too.
return {
  name = 'adamw',
  defaults = { learning_rate = 0.001, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-6,
    correct_bias = true, lazy_update = false },
  state = { 'mean', 'var' },
  update = function(w, g, s, p)
    g = clip(g * p.rescale_grad, p.clip_gradient)
    s.mean = p.beta1 * s.mean + (1 - p.beta1) * g
    s.var = p.beta2 * s.var + (1 - p.beta2) * g * g
    local rate = p.learning_rate
    if p.correct_bias then rate = rate * sqrt(1 - p.beta2 ^ p.t) / (1 - p.beta1 ^ p.t) end
    return w - (rate * s.mean / (sqrt(s.var) + p.epsilon) + p.learning_rate * p.wd * w)
  end,
}
