-- SPDX-License-Identifier: MIT
--- AdaDelta (Zeiler, 2012).
return {
  name = 'adadelta',
  defaults = { learning_rate = 1, rho = 0.9, epsilon = 1e-6, lazy_update = false },
  state = { 'gradients', 'steps' }, -- mean squares of both
  update = function(w, g, s, p)
    g = clip(g * p.rescale_grad, p.clip_gradient) + p.wd * w
    s.gradients = p.rho * s.gradients + (1 - p.rho) * g * g
    local d = sqrt(s.steps + p.epsilon) / sqrt(s.gradients + p.epsilon) * g
    s.steps = p.rho * s.steps + (1 - p.rho) * d * d
    return w - p.learning_rate * d
  end,
}
