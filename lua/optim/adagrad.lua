-- SPDX-License-Identifier: MIT
--- AdaGrad (Duchi et al., 2011).
return {
  name = 'adagrad',
  defaults = { learning_rate = 0.01, epsilon = 1e-6, lazy_update = true },
  state = { 'history' },
  update = function(w, g, s, p)
    g = clip(g * p.rescale_grad, p.clip_gradient) + p.wd * w
    s.history = s.history + g * g
    return w - p.learning_rate * g / (sqrt(s.history) + p.epsilon)
  end,
}
