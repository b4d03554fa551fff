-- SPDX-License-Identifier: MIT
--- For tests: adds what is pushed.
return {
  name = 'test',
  update = function(w, g, s, p)
    return w + p.rescale_grad * g
  end,
}
