-- SPDX-License-Identifier: MIT
--- AdaGrad with one rate for each row, for tables of vectors. A key of two dimensions, no wd.
return {
  name = 'group_adagrad',
  defaults = { learning_rate = 0.01, epsilon = 1e-6, lazy_update = true },
  state = { 'history' }, -- the same number along each row
  update = function(w, g, s, p)
    if #p.shape ~= 2 then error('group_adagrad updates keys of two dimensions only') end
    if not is_zero(p.wd) then error('group_adagrad has no weight decay: leave wd at 0') end
    g = clip(g * p.rescale_grad, p.clip_gradient)
    s.history = s.history + row_mean(g * g)
    return w - p.learning_rate * g / (sqrt(s.history) + p.epsilon)
  end,
}
