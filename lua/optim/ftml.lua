-- SPDX-License-Identifier: MIT
--- Follow the moving leader (Zheng & Kwok, 2017).
return {
  name = 'ftml',
  defaults = { learning_rate = 0.0025, beta1 = 0.6, beta2 = 0.999, epsilon = 1e-8,
    lazy_update = false },
  state = { 'd', 'v', 'z' },
  update = function(w, g, s, p)
    g = clip(g * p.rescale_grad, p.clip_gradient) + p.wd * w
    s.v = p.beta2 * s.v + (1 - p.beta2) * g * g
    local d = (1 - p.beta1 ^ p.t) / p.learning_rate
      * (sqrt(s.v / (1 - p.beta2 ^ p.t)) + p.epsilon)
    s.z = p.beta1 * s.z + (1 - p.beta1) * g - (d - p.beta1 * s.d) * w
    s.d = d
    return -s.z / d
  end,
}
