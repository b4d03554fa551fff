-- SPDX-License-Identifier: MIT
--- LAMB (You et al., 2020, algorithm 2): Adam's step, as long as the weight is.
return {
  name = 'lamb',
  defaults = { learning_rate = 0.001, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-6,
    lower_bound = false, upper_bound = false, bias_correction = true, lazy_update = false },
  state = { 'mean', 'var' },
  update = function(w, g, s, p)
    g = clip(g * p.rescale_grad, p.clip_gradient)
    s.mean = p.beta1 * s.mean + (1 - p.beta1) * g
    s.var = p.beta2 * s.var + (1 - p.beta2) * g * g
    local mean, var = s.mean, s.var
    if p.bias_correction then
      mean, var = mean / (1 - p.beta1 ^ p.t), var / (1 - p.beta2 ^ p.t)
    end
    local u = mean / (sqrt(var) + p.epsilon) + p.wd * w
    local long, step = norm(w), norm(u)
    local known = gt(long, 0) * gt(step, 0)
    if p.lower_bound then long = max(long, p.lower_bound) end
    if p.upper_bound then long = min(long, p.upper_bound) end
    return w - p.learning_rate * where(known, long / step, 1) * u
  end,
}
