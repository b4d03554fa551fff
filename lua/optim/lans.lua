-- SPDX-License-Identifier: MIT
--- LANS (Zheng et al., 2020): LAMB on gradients of length 1, with Nesterov's momentum.
return {
  name = 'lans',
  defaults = { learning_rate = 0.001, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-6,
    lower_bound = false, upper_bound = false, lazy_update = false },
  state = { 'mean', 'var' },
  update = function(w, g, s, p)
    g = g * p.rescale_grad
    local whole = norm(g)
    g = clip(g / where(gt(whole, 0), whole, 1), p.clip_gradient)
    s.mean = p.beta1 * s.mean + (1 - p.beta1) * g
    s.var = p.beta2 * s.var + (1 - p.beta2) * g * g
    local size = sqrt(s.var / (1 - p.beta2 ^ p.t)) + p.epsilon
    local u1 = s.mean / (1 - p.beta1 ^ p.t) / size + p.wd * w
    local u2 = g / size + p.wd * w
    local long = norm(w)
    local function ratio(u)
      local bounded, step = long, norm(u)
      if p.lower_bound then bounded = max(bounded, p.lower_bound) end
      if p.upper_bound then bounded = min(bounded, p.upper_bound) end
      return where(gt(long, 0) * gt(step, 0), bounded / step, 1)
    end
    return w - p.learning_rate
      * (p.beta1 * ratio(u1) * u1 + (1 - p.beta1) * ratio(u2) * u2)
  end,
}
