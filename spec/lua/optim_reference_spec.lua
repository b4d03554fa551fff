-- SPDX-License-Identifier: MIT
-- Every optimizer against its formula, written here once more in plain numbers: 20 steps, with
-- and without weight decay, clipping and rescaling, in float32 and float64.

local neap = require 'neap'
local nd, optim = neap.nd, neap.optim

local ROWS, COLUMNS, STEPS = 3, 4, 20

-- ---- The formulas ----------------------------------------------------------------------------
-- step(w, g, s, p, t, whole): the new value of one element; w the old, g the pushed gradient,
-- s this element's states (0 at first), p the settings. `whole(f)` is the norm of f over all
-- elements' (w, g, s); `row(f)` the mean over the element's row.

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

local FORMULAS = {
  sgd = function(w, g, s, p)
    s.mom = p.momentum * (s.mom or 0) - p.learning_rate * decayed(w, g, p)
    return w + s.mom
  end,
  nag = function(w, g, s, p)
    g = decayed(w, g, p)
    s.mom = p.momentum * (s.mom or 0) - p.learning_rate * g
    return w + p.momentum * s.mom - p.learning_rate * g
  end,
  signum = function(w, g, s, p)
    s.mom = p.momentum * (s.mom or 0) - (1 - p.momentum) * decayed(w, g, p)
    return (1 - p.learning_rate * p.wd_lh) * w + p.learning_rate * sign(s.mom)
  end,
  dcasgd = function(w, g, s, p)
    g = decayed(w, g, p)
    local d = g + p.lamda * g ^ 2 * (w - (s.previous or w))
    s.previous = w
    s.mom = p.momentum * (s.mom or 0) - p.learning_rate * d
    return w + s.mom
  end,
  adam = function(w, g, s, p, t)
    moments(s, decayed(w, g, p), p)
    return w - adam_rate(p, t) * s.m / (math.sqrt(s.v) + p.epsilon)
  end,
  adamw = function(w, g, s, p, t)
    moments(s, clipped(g, p), p)
    return w - adam_rate(p, t) * s.m / (math.sqrt(s.v) + p.epsilon)
      - p.learning_rate * p.wd * w
  end,
  adabelief = function(w, g, s, p, t)
    g = clip(p.rescale_grad * g + p.wd * w, p.clip_gradient)
    s.m = p.beta1 * (s.m or 0) + (1 - p.beta1) * g
    s.v = p.beta2 * (s.v or 0) + (1 - p.beta2) * (g - s.m) ^ 2 + p.epsilon
    return w - adam_rate(p, t) * s.m / (math.sqrt(s.v) + p.epsilon)
  end,
  adamax = function(w, g, s, p, t)
    g = decayed(w, g, p)
    s.m = p.beta1 * (s.m or 0) + (1 - p.beta1) * g
    s.u = math.max(p.beta2 * (s.u or 0), math.abs(g))
    return w - p.learning_rate / (1 - p.beta1 ^ t) * s.m / (s.u + p.epsilon)
  end,
  nadam = function(w, g, s, p, t)
    g = decayed(w, g, p)
    moments(s, g, p)
    local function mu(n) return p.beta1 * (1 - 0.5 * 0.96 ^ (n * p.schedule_decay)) end
    s.M = (s.M or 1) * mu(t)
    local step = mu(t + 1) * s.m / (1 - s.M * mu(t + 1)) + (1 - mu(t)) * g / (1 - s.M)
    return w - p.learning_rate * step / (math.sqrt(s.v / (1 - p.beta2 ^ t)) + p.epsilon)
  end,
  adagrad = function(w, g, s, p)
    g = decayed(w, g, p)
    s.h = (s.h or 0) + g ^ 2
    return w - p.learning_rate * g / (math.sqrt(s.h) + p.epsilon)
  end,
  group_adagrad = function(w, g, s, p, _, _, row)
    s.h = (s.h or 0) + row(function(_, x) return clipped(x, p) ^ 2 end)
    return w - p.learning_rate * clipped(g, p) / (math.sqrt(s.h) + p.epsilon)
  end,
  adadelta = function(w, g, s, p)
    g = decayed(w, g, p)
    s.G = p.rho * (s.G or 0) + (1 - p.rho) * g ^ 2
    local d = math.sqrt((s.D or 0) + p.epsilon) / math.sqrt(s.G + p.epsilon) * g
    s.D = p.rho * (s.D or 0) + (1 - p.rho) * d ^ 2
    return w - p.learning_rate * d
  end,
  rmsprop = function(w, g, s, p)
    g = decayed(w, g, p)
    s.n = p.rho * (s.n or 0) + (1 - p.rho) * g ^ 2
    local new
    if p.centered then
      s.a = p.rho * (s.a or 0) + (1 - p.rho) * g
      s.d = p.momentum * (s.d or 0) - p.learning_rate * g / math.sqrt(s.n - s.a ^ 2 + p.epsilon)
      new = w + s.d
    else
      new = w - p.learning_rate * g / (math.sqrt(s.n) + p.epsilon)
    end
    return clip(new, p.clip_weights)
  end,
  ftrl = function(w, g, s, p)
    local c, n, z = clipped(g, p), s.n or 0, s.z or 0
    s.z = z + c - (math.sqrt(n + c ^ 2) - math.sqrt(n)) * w / p.learning_rate
    s.n = n + c ^ 2
    return -sign(s.z) * math.max(math.abs(s.z) - p.lamda1, 0)
      / ((p.beta + math.sqrt(s.n)) / p.learning_rate + p.wd)
  end,
  ftml = function(w, g, s, p, t)
    g = decayed(w, g, p)
    s.v = p.beta2 * (s.v or 0) + (1 - p.beta2) * g ^ 2
    local d = (1 - p.beta1 ^ t) / p.learning_rate
      * (math.sqrt(s.v / (1 - p.beta2 ^ t)) + p.epsilon)
    s.z = p.beta1 * (s.z or 0) + (1 - p.beta1) * g - (d - p.beta1 * (s.d or 0)) * w
    s.d = d
    return -s.z / d
  end,
  lamb = function(w, g, s, p, t, whole)
    local function u(v, x, state)
      local m = p.beta1 * (state.m or 0) + (1 - p.beta1) * clipped(x, p)
      local n = p.beta2 * (state.v or 0) + (1 - p.beta2) * clipped(x, p) ^ 2
      return m / (1 - p.beta1 ^ t) / (math.sqrt(n / (1 - p.beta2 ^ t)) + p.epsilon) + p.wd * v
    end
    local step = p.learning_rate * whole(function(v) return v end) / whole(u) * u(w, g, s)
    return w - step, function() moments(s, clipped(g, p), p) end
  end,
  lans = function(w, g, s, p, t, whole)
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
    local long = whole(function(v) return v end)
    local step = p.beta1 * long / whole(u1) * u1(w, g, s)
      + (1 - p.beta1) * long / whole(u2) * u2(w, g, s)
    return w - p.learning_rate * step, function() moments(s, c(g), p) end
  end,
  lars = function(w, g, s, p, _, whole)
    local long = whole(function(v) return v end)
    local steep = whole(function(_, x) return p.rescale_grad * x end)
    local rate = p.learning_rate * p.eta * long / (steep + p.wd * long + p.epsilon)
    s.mom = p.momentum * (s.mom or 0) - rate * decayed(w, g, p)
    return w + s.mom
  end,
}
FORMULAS.test = function(w, g, _, p) return w + p.rescale_grad * g end

-- Settings of each case, beside an optimizer's defaults.
local CASES = {
  { 'sgd', { momentum = 0.9 } }, { 'nag', {} }, { 'signum', { wd_lh = 0.01 } },
  { 'dcasgd', { momentum = 0.5 } }, { 'adam', {} }, { 'adamw', {} }, { 'adabelief', {} },
  { 'adamax', {} }, { 'nadam', {} }, { 'adagrad', {} }, { 'group_adagrad', {} },
  { 'adadelta', {} }, { 'rmsprop', {} }, { 'rmsprop', { centered = true, clip_weights = 1.2 } },
  { 'ftrl', {} }, { 'ftml', {} }, { 'lamb', {} }, { 'lans', {} }, { 'lars', { momentum = 0.9 } },
  { 'test', {} },
}
local EXTRAS = {
  plain = {},
  ['decay, clipping, rescaling'] = { wd = 0.03, clip_gradient = 0.4, rescale_grad = 0.5 },
}

-- ---- Both ways -------------------------------------------------------------------------------

local function gradient(step, i)
  return math.sin(step * 1.7 + i * 0.9) + 0.2 * math.cos(i * step)
end

local function by_formula(name, p)
  local step_of, size = FORMULAS[name], ROWS * COLUMNS
  local w, states = {}, {}
  for i = 1, size do w[i], states[i] = 0.5 + 0.1 * i, {} end
  for t = 1, STEPS do
    local g, new, afterwards = {}, {}, {}
    for i = 1, size do g[i] = gradient(t, i) end
    local function whole(f)
      local sum = 0
      for i = 1, size do sum = sum + f(w[i], g[i], states[i]) ^ 2 end
      return math.sqrt(sum)
    end
    for i = 1, size do
      local function row(f)
        local sum, first = 0, i - (i - 1) % COLUMNS
        for k = first, first + COLUMNS - 1 do sum = sum + f(w[k], g[k], states[k]) end
        return sum / COLUMNS
      end
      new[i], afterwards[i] = step_of(w[i], g[i], states[i], p, t, whole, row)
    end
    for i = 1, size do if afterwards[i] then afterwards[i]() end end
    w = new
  end
  return w
end

local function flat(a) return a:reshape({ -1 }):totable() end

local function pushed(store, key, t, dtype, stype)
  local values = {}
  for i = 1, ROWS * COLUMNS do values[i] = gradient(t, i) end
  local g = nd.array(values, { dtype = dtype }):reshape({ ROWS, COLUMNS })
  store:push(key, stype and g:tostype(stype) or g)
end

local function by_script(name, settings, dtype, stype)
  local store, start = neap.kv.create(), {}
  for i = 1, ROWS * COLUMNS do start[i] = 0.5 + 0.1 * i end
  store:init('w', nd.array(start, { dtype = dtype }):reshape({ ROWS, COLUMNS }))
  store:set_optimizer(optim.create(name, settings))
  for t = 1, STEPS do pushed(store, 'w', t, dtype, stype) end
  local out = nd.zeros({ ROWS, COLUMNS }, { dtype = dtype })
  store:pull('w', out)
  return flat(out)
end

local function agree(expected, got, tolerance, what)
  for i = 1, #expected do
    local error = math.abs(got[i] - expected[i]) / math.max(math.abs(expected[i]), 0.1)
    assert.truthy(error < tolerance, ('%s, element %d: %.9g is not %.9g'):format(what, i, got[i],
      expected[i]))
  end
end

for _, case in ipairs(CASES) do
  local name, own = case[1], case[2]
  for extra, more in pairs(EXTRAS) do
    local title = ('%s (%s%s)'):format(name, extra, own.centered and ', centered' or '')
    it(title .. ' follows its formula', function()
      local settings = {}
      for k, v in pairs(own) do settings[k] = v end
      for k, v in pairs(more) do
        if not (name == 'group_adagrad' and k == 'wd') then settings[k] = v end
      end
      local all = optim.create(name, settings):settings()
      local expected = by_formula(name, all)
      agree(expected, by_script(name, settings, 'float64'), 1e-11, 'float64')
      agree(expected, by_script(name, settings, 'float32'), 1e-5, 'float32')
      -- All rows are present: lazy or not, it is the same update.
      agree(expected, by_script(name, settings, 'float32', 'row_sparse'), 1e-5, 'row_sparse')
    end)
  end
end

-- ---- Identities --------------------------------------------------------------------------------

describe('identities', function()
  local function same(a, b)
    for i = 1, #a do assert.truthy(math.abs(a[i] - b[i]) <= 1e-6 * math.abs(b[i]) + 1e-9) end
  end

  it('nag without momentum is sgd', function()
    same(by_script('nag', { momentum = 0, learning_rate = 0.1 }, 'float32'),
      by_script('sgd', { learning_rate = 0.1 }, 'float32'))
  end)

  it('rmsprop with rho 0 steps by lr / (1 + eps) on ones', function()
    local store, out = neap.kv.create(), nd.zeros(2, { dtype = 'float64' })
    store:init(1, out)
    store:set_optimizer(optim.rmsprop { rho = 0, learning_rate = 0.25, epsilon = 0.5 })
    store:push(1, nd.ones(2, { dtype = 'float64' }))
    store:pull(1, out)
    same(out:totable(), { -0.25 / 1.5, -0.25 / 1.5 })
  end)

  it('lars is sgd for keys that end in bias', function()
    local outs = {}
    for i, o in ipairs { optim.lars { learning_rate = 0.3 }, optim.sgd { learning_rate = 0.3 } } do
      local store = neap.kv.create()
      outs[i] = nd.zeros { ROWS, COLUMNS }
      store:init('layer_bias', nd.ones { ROWS, COLUMNS })
      store:set_optimizer(o)
      for t = 1, 5 do pushed(store, 'layer_bias', t, 'float32') end
      store:pull('layer_bias', outs[i])
    end
    same(flat(outs[1]), flat(outs[2]))
  end)

  it('sgld adds noise of variance learning_rate, the same for one seed', function()
    local n, lr = 40000, 0.09
    local function noise()
      neap.seed(7)
      local store, out = neap.kv.create(), nd.zeros(n)
      store:init('w', out)
      store:set_optimizer(optim.sgld { learning_rate = lr })
      store:push('w', nd.full(n, 2))
      store:pull('w', out)
      return out
    end
    local a, b = noise(), noise()
    assert.equal(1, nd.equal(a, b):min():item())
    local mean = a:mean():item()
    assert.truthy(math.abs(mean + lr / 2 * 2) < 4 * math.sqrt(lr / n))
    assert.truthy(math.abs(nd.square(a - mean):mean():item() / lr - 1) < 0.04)
  end)

  it('rows absent stay as they are where the update is lazy', function()
    for _, name in ipairs { 'sgd', 'adam', 'adagrad', 'group_adagrad', 'ftrl', 'lars' } do
      local store, out = neap.kv.create(), nd.zeros { 3, 2 }
      store:init('w', nd.ones { 3, 2 })
      store:set_optimizer(optim.create(name, {}))
      store:push('w', nd.sparse.row_sparse(nd.ones { 1, 2 }, nd.array({ 1 }, { dtype = 'int64' }),
        { 3, 2 }))
      store:pull('w', out)
      local rows = out:totable()
      assert.same({ { 1, 1 }, { 1, 1 } }, { rows[1], rows[3] }, name)
      assert.truthy(rows[2][1] ~= 1, name)
    end
  end)

  it('recording takes less than 5 ms, and numbers that change record nothing anew', function()
    for _, case in ipairs(CASES) do
      local store = neap.kv.create()
      store:init('w', nd.ones { ROWS, COLUMNS })
      store:set_optimizer(optim.create(case[1], case[2]))
      local start = os.clock()
      pushed(store, 'w', 1, 'float32')
      assert.truthy(os.clock() - start < 0.02, case[1]) -- with the push, on a busy machine
      local before = optim.recordings()
      for t = 2, 20 do
        store:set_learning_rate(0.1 / t)
        pushed(store, 'w', t, 'float32')
      end
      assert.equal(before, optim.recordings())
      neap.waitall()
    end
  end)
end)
