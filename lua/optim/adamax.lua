-- SPDX-License-Identifier: MIT
--- Adamax (Kingma & Ba, 2015, algorithm 2): Adam by the infinity norm.
return {
  name = 'adamax',
  defaults = { learning_rate = 0.002, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8,
    lazy_update = false },
  state = { 'mean', 'most' },
  update = function(w, g, s, p)
    g = clip(g * p.rescale_grad, p.clip_gradient) + p.wd * w
    s.mean = p.beta1 * s.mean + (1 - p.beta1) * g
    s.most = max(p.beta2 * s.most, abs(g))
    return w - p.learning_rate / (1 - p.beta1 ^ p.t) * s.mean / (s.most + p.epsilon)
  end,
}
