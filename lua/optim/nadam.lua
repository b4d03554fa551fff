-- SPDX-License-Identifier: MIT
--- Adam with Nesterov's momentum (Dozat, 2016). m_schedule is the product of the momenta so far,
--- kept for each key.
return {
  name = 'nadam',
  defaults = { learning_rate = 0.001, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8,
    schedule_decay = 0.004, lazy_update = false },
  state = { 'mean', 'var' },
  scalars = { m_schedule = 1 },
  update = function(w, g, s, p)
    g = clip(g * p.rescale_grad, p.clip_gradient) + p.wd * w
    local function momentum(t) return p.beta1 * (1 - 0.5 * 0.96 ^ (t * p.schedule_decay)) end
    local now, after = momentum(p.t), momentum(p.t + 1)
    s.m_schedule = s.m_schedule * now
    s.mean = p.beta1 * s.mean + (1 - p.beta1) * g
    s.var = p.beta2 * s.var + (1 - p.beta2) * g * g
    local step = after / (1 - s.m_schedule * after) * s.mean
      + (1 - now) / (1 - s.m_schedule) * g
    return w - p.learning_rate * step / (sqrt(s.var / (1 - p.beta2 ^ p.t)) + p.epsilon)
  end,
}
