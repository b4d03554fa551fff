-- SPDX-License-Identifier: MIT
--- The update rules of lua/optim/ once more, in plain float64 numbers and as their papers have
--- them, for specs to compare with.
--
--   local formulas = dofile(here .. 'optim_formulas.lua')
--   formulas.sgd(w, g, s, p, t, whole, row, draw) -> new w, nil | function
--
-- One element at a time: w the old value, g what was pushed, s this element's states (empty at
-- first), p the settings, with the rate and decay of this step; t counts from 1. `whole(f)` is
-- the norm of f(w, g, s) over all elements that the update touches, `row(f)` the mean over the
-- element's row, `draw` a normal number. A second result changes s after all elements are done:
-- rules with norms need the states that were.

local function sign(x) return x > 0 and 1 or x < 0 and -1 or 0 end
local function clip(x, bound)
  return bound and math.max(-bound, math.min(bound, x)) or x
end
local function clipped(g, p) return clip(p.rescale_grad * g, p.clip_gradient) end
local function decayed(w, g, p) return clipped(g, p) + p.wd * w end

local function moments(s, x, p)
  s.m = p.beta1 * (s.m or 0) + (1 - p.beta1) * x
  s.v = p.beta2 * (s.v or 0) + (1 - p.beta2) * x * x
end
local function adam_rate(p, t)
  return p.learning_rate * math.sqrt(1 - p.beta2 ^ t) / (1 - p.beta1 ^ t)
end

local function heavy_ball(w, d, s, p)
  s.mom = p.momentum * (s.mom or 0) - p.learning_rate * d
  return w + s.mom
end

local function weight_of(w) return w end

--- How long a step is made: 1 where a length is 0.
local function trust(weight, step, p)
  if weight == 0 or step == 0 then return 1 end
  if p.lower_bound then weight = math.max(weight, p.lower_bound) end
  if p.upper_bound then weight = math.min(weight, p.upper_bound) end
  return weight / step
end

local M = {}

function M.test(w, g, _, p) return w + p.rescale_grad * g end

function M.sgd(w, g, s, p) return heavy_ball(w, decayed(w, g, p), s, p) end

function M.nag(w, g, s, p)
  g = decayed(w, g, p)
  s.mom = p.momentum * (s.mom or 0) - p.learning_rate * g
  return w + p.momentum * s.mom - p.learning_rate * g
end

function M.signum(w, g, s, p)
  if p.momentum == 0 then
    return (1 - p.learning_rate * (p.wd + p.wd_lh)) * w - p.learning_rate * sign(clipped(g, p))
  end
  s.mom = p.momentum * (s.mom or 0) - (1 - p.momentum) * decayed(w, g, p)
  return (1 - p.learning_rate * p.wd_lh) * w + p.learning_rate * sign(s.mom)
end

function M.sgld(w, g, _, p, _, _, _, draw)
  return w - p.learning_rate / 2 * decayed(w, g, p) + math.sqrt(p.learning_rate) * draw
end

function M.dcasgd(w, g, s, p)
  g = decayed(w, g, p)
  local d = g + p.lamda * g ^ 2 * (w - (s.previous or w))
  s.previous = w
  return heavy_ball(w, d, s, p)
end

function M.adam(w, g, s, p, t)
  moments(s, decayed(w, g, p), p)
  return w - adam_rate(p, t) * s.m / (math.sqrt(s.v) + p.epsilon)
end

function M.adamw(w, g, s, p, t)
  moments(s, clipped(g, p), p)
  local rate = p.correct_bias and adam_rate(p, t) or p.learning_rate
  return w - (rate * s.m / (math.sqrt(s.v) + p.epsilon) + p.learning_rate * p.wd * w)
end

function M.adabelief(w, g, s, p, t)
  g = clip(p.rescale_grad * g + p.wd * w, p.clip_gradient)
  s.m = p.beta1 * (s.m or 0) + (1 - p.beta1) * g
  s.v = p.beta2 * (s.v or 0) + (1 - p.beta2) * (g - s.m) ^ 2 + p.epsilon
  return w - adam_rate(p, t) * s.m / (math.sqrt(s.v) + p.epsilon)
end

function M.adamax(w, g, s, p, t)
  g = decayed(w, g, p)
  s.m = p.beta1 * (s.m or 0) + (1 - p.beta1) * g
  s.u = math.max(p.beta2 * (s.u or 0), math.abs(g))
  return w - p.learning_rate / (1 - p.beta1 ^ t) * s.m / (s.u + p.epsilon)
end

function M.nadam(w, g, s, p, t)
  g = decayed(w, g, p)
  moments(s, g, p)
  local function mu(n) return p.beta1 * (1 - 0.5 * 0.96 ^ (n * p.schedule_decay)) end
  s.M = (s.M or 1) * mu(t)
  local step = mu(t + 1) * s.m / (1 - s.M * mu(t + 1)) + (1 - mu(t)) * g / (1 - s.M)
  return w - p.learning_rate * step / (math.sqrt(s.v / (1 - p.beta2 ^ t)) + p.epsilon)
end

function M.adagrad(w, g, s, p)
  g = decayed(w, g, p)
  s.h = (s.h or 0) + g ^ 2
  return w - p.learning_rate * g / (math.sqrt(s.h) + p.epsilon)
end

function M.group_adagrad(w, g, s, p, _, _, row)
  s.h = (s.h or 0) + row(function(_, x) return clipped(x, p) ^ 2 end)
  return w - p.learning_rate * clipped(g, p) / (math.sqrt(s.h) + p.epsilon)
end

function M.adadelta(w, g, s, p)
  g = decayed(w, g, p)
  s.G = p.rho * (s.G or 0) + (1 - p.rho) * g ^ 2
  local d = math.sqrt((s.D or 0) + p.epsilon) / math.sqrt(s.G + p.epsilon) * g
  s.D = p.rho * (s.D or 0) + (1 - p.rho) * d ^ 2
  return w - p.learning_rate * d
end

function M.rmsprop(w, g, s, p)
  g = decayed(w, g, p)
  s.n = p.rho * (s.n or 0) + (1 - p.rho) * g ^ 2
  if not p.centered then
    return clip(w - p.learning_rate * g / (math.sqrt(s.n) + p.epsilon), p.clip_weights)
  end
  s.a = p.rho * (s.a or 0) + (1 - p.rho) * g
  s.d = p.momentum * (s.d or 0) - p.learning_rate * g / math.sqrt(s.n - s.a ^ 2 + p.epsilon)
  return clip(w + s.d, p.clip_weights)
end

function M.ftrl(w, g, s, p)
  local c, n, z = clipped(g, p), s.n or 0, s.z or 0
  s.z = z + c - (math.sqrt(n + c ^ 2) - math.sqrt(n)) * w / p.learning_rate
  s.n = n + c ^ 2
  return -sign(s.z) * math.max(math.abs(s.z) - p.lamda1, 0)
    / ((p.beta + math.sqrt(s.n)) / p.learning_rate + p.wd)
end

function M.ftml(w, g, s, p, t)
  g = decayed(w, g, p)
  s.v = p.beta2 * (s.v or 0) + (1 - p.beta2) * g ^ 2
  local d = (1 - p.beta1 ^ t) / p.learning_rate
    * (math.sqrt(s.v / (1 - p.beta2 ^ t)) + p.epsilon)
  s.z = p.beta1 * (s.z or 0) + (1 - p.beta1) * g - (d - p.beta1 * (s.d or 0)) * w
  s.d = d
  return -s.z / d
end

function M.lamb(w, g, s, p, t, whole)
  local function step(v, x, state)
    local c = clipped(x, p)
    local m = p.beta1 * (state.m or 0) + (1 - p.beta1) * c
    local n = p.beta2 * (state.v or 0) + (1 - p.beta2) * c ^ 2
    if p.bias_correction then m, n = m / (1 - p.beta1 ^ t), n / (1 - p.beta2 ^ t) end
    return m / (math.sqrt(n) + p.epsilon) + p.wd * v
  end
  local rate = p.learning_rate * trust(whole(weight_of), whole(step), p)
  return w - rate * step(w, g, s), function() moments(s, clipped(g, p), p) end
end

function M.lans(w, g, s, p, t, whole)
  local length = whole(function(_, x) return p.rescale_grad * x end)
  local function c(x) return clip(p.rescale_grad * x / length, p.clip_gradient) end
  local function size(x, state)
    local n = p.beta2 * (state.v or 0) + (1 - p.beta2) * c(x) ^ 2
    return math.sqrt(n / (1 - p.beta2 ^ t)) + p.epsilon
  end
  local function u1(v, x, state)
    local m = p.beta1 * (state.m or 0) + (1 - p.beta1) * c(x)
    return m / (1 - p.beta1 ^ t) / size(x, state) + p.wd * v
  end
  local function u2(v, x, state) return c(x) / size(x, state) + p.wd * v end
  local long = whole(weight_of)
  local step = p.beta1 * trust(long, whole(u1), p) * u1(w, g, s)
    + (1 - p.beta1) * trust(long, whole(u2), p) * u2(w, g, s)
  return w - p.learning_rate * step, function() moments(s, c(g), p) end
end

function M.lars(w, g, s, p, _, whole)
  local long = whole(weight_of)
  local steep = whole(function(_, x) return p.rescale_grad * x end)
  local rate = p.learning_rate
  if long > 0 and steep > 0 then rate = rate * p.eta * long / (steep + p.wd * long + p.epsilon) end
  s.mom = p.momentum * (s.mom or 0) - rate * decayed(w, g, p)
  return w + s.mom
end

return M
