-- SPDX-License-Identifier: MIT
--- LARS (You et al., 2017): SGD with a rate for each key by the lengths of weight and gradient.
--- Keys whose names end in gamma, beta or bias are updated by plain SGD.
local function is_plain(key)
  if type(key) ~= 'string' then return false end
  return key:sub(-5) == 'gamma' or key:sub(-4) == 'beta' or key:sub(-4) == 'bias'
end

return {
  name = 'lars',
  defaults = { learning_rate = 0.1, momentum = 0, eta = 0.001, epsilon = 1e-8,
    lazy_update = true },
  state = { 'mom' },
  update = function(w, g, s, p)
    g = g * p.rescale_grad
    local rate = p.learning_rate
    if not is_plain(p.key) then
      local long, steep = norm(w), norm(g)
      rate = rate * where(gt(long, 0) * gt(steep, 0),
        p.eta * long / (steep + p.wd * long + p.epsilon), 1)
    end
    g = clip(g, p.clip_gradient) + p.wd * w
    if is_zero(p.momentum) then return w - rate * g end
    s.mom = p.momentum * s.mom - rate * g
    return w + s.mom
  end,
}
