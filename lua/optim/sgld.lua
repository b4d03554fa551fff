-- SPDX-License-Identifier: MIT
--- Stochastic gradient Langevin dynamics (Welling & Teh, 2011): noise of variance learning_rate.
return {
  name = 'sgld',
  defaults = { learning_rate = 0.1, lazy_update = false },
  update = function(w, g, _, p)
    g = clip(g * p.rescale_grad, p.clip_gradient) + p.wd * w
    return w - p.learning_rate / 2 * g + sqrt(p.learning_rate) * normal()
  end,
}
