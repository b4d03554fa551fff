-- SPDX-License-Identifier: MIT
--- Follow the regularised leader, proximal (McMahan et al., 2013, algorithm 1).
return {
  name = 'ftrl',
  defaults = { learning_rate = 0.1, lamda1 = 0.01, beta = 1, lazy_update = true },
  state = { 'z', 'n' },
  update = function(w, g, s, p)
    g = clip(g * p.rescale_grad, p.clip_gradient)
    local n = s.n + g * g
    s.z = s.z + g - (sqrt(n) - sqrt(s.n)) * w / p.learning_rate
    s.n = n
    return -sign(s.z) * max(abs(s.z) - p.lamda1, 0)
      / ((p.beta + sqrt(n)) / p.learning_rate + p.wd)
  end,
}
