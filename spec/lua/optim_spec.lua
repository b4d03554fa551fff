-- SPDX-License-Identifier: MIT
-- Optimizers and schedules against their formulas, computed here in float64 by plain loops.

local neap = require 'neap'
local nd, optim, lr = neap.nd, neap.optim, neap.lr_scheduler

local STEPS, ROWS, COLUMNS = 20, 5, 3

-- ---- References: step(w, g, state, p), one element at a time ------------------------------
-- p.rate and p.wd are what schedule and multipliers make of them; p.t counts from 1.

local function clipped(x, bound)
  if not bound then return x end
  return math.max(-bound, math.min(bound, x))
end

local REFERENCE = {}

function REFERENCE.sgd(w, g, s, p)
  g = clipped(p.rescale_grad * g, p.clip_gradient) + p.wd * w
  s.mom = (p.momentum or 0) * (s.mom or 0) - p.rate * g
  return w + s.mom
end

function REFERENCE.adam(w, g, s, p)
  g = clipped(p.rescale_grad * g, p.clip_gradient) + p.wd * w
  local b1, b2 = p.beta1 or 0.9, p.beta2 or 0.999
  s.m = b1 * (s.m or 0) + (1 - b1) * g
  s.v = b2 * (s.v or 0) + (1 - b2) * g * g
  local rate = p.rate * math.sqrt(1 - b2 ^ p.t) / (1 - b1 ^ p.t)
  return w - rate * s.m / (math.sqrt(s.v) + (p.epsilon or 1e-8))
end

function REFERENCE.test(w, g, _, p) return w + p.rescale_grad * g end

local RATES = { sgd = 0.01, adam = 0.001, test = 0.01 }

--- A pseudo-random number in [-1, 1) for each step, row and column, exact in every float.
local function gradient_at(step, r, c)
  return ((step * 7919 + r * 104729 + c * 1299709) % 257 - 128) / 128
end

local function present(step, r) return (step * 3 + r) % 4 < 2 end

--- Runs STEPS updates and compares; `how` is 'dense', 'lazy', 'full'.
local function compare(name, settings, how, dtype, tolerance)
  local store = neap.kv.create()
  settings = settings or {}
  local given = { lazy_update = how ~= 'full' }
  for k, v in pairs(settings) do given[k] = v end
  store:set_optimizer(optim.create(name, given))
  local weight, state = {}, {}
  local start = {}
  for r = 1, ROWS do
    weight[r], state[r], start[r] = {}, {}, {}
    for c = 1, COLUMNS do
      weight[r][c] = gradient_at(0, r, c)
      start[r][c], state[r][c] = weight[r][c], {}
    end
  end
  store:init('w', nd.array(start, { dtype = dtype }))
  local schedule = settings.lr_scheduler
  for t = 1, STEPS do
    local p = {}
    for k, v in pairs(settings) do p[k] = v end
    p.t = t
    p.rate = schedule and schedule(t) or settings.learning_rate or RATES[name]
    p.rate = p.rate * ((settings.lr_mult or {}).w or 1)
    p.wd = (settings.wd or 0) * ((settings.wd_mult or {}).w or 1)
    p.rescale_grad = settings.rescale_grad or 1
    local rows, ids, dense = {}, {}, {}
    for r = 1, ROWS do
      local here = how == 'dense' or present(t, r)
      dense[r] = {}
      for c = 1, COLUMNS do
        local g = here and gradient_at(t, r, c) or 0
        dense[r][c] = g
        if here or how ~= 'lazy' then
          weight[r][c] = REFERENCE[name](weight[r][c], g, state[r][c], p)
        end
      end
      if here then rows[#rows + 1], ids[#ids + 1] = dense[r], r - 1 end
    end
    if how == 'dense' then
      store:push('w', nd.array(dense, { dtype = dtype }))
    else
      store:push('w', nd.sparse.row_sparse(nd.array(rows, { dtype = dtype }), ids,
        { ROWS, COLUMNS }, { dtype = dtype }))
    end
  end
  local out = nd.zeros({ ROWS, COLUMNS }, { dtype = dtype })
  store:pull('w', out)
  local got = out:totable()
  for r = 1, ROWS do
    for c = 1, COLUMNS do
      local expected = weight[r][c]
      assert.is_true(math.abs(got[r][c] - expected) <= tolerance * math.max(1, math.abs(expected)),
        ('%s %s, element %d,%d: %.9g, not %.9g'):format(name, how, r, c, got[r][c], expected))
    end
  end
end

local SETTINGS = {
  ['with defaults'] = {},
  ['with weight decay, clipping and rescaling'] =
    { wd = 0.1, clip_gradient = 0.3, rescale_grad = 0.5, learning_rate = 0.05 },
  ['with a schedule and multipliers'] = { wd = 0.2, lr_mult = { w = 0.5 }, wd_mult = { w = 0.25 },
    lr_scheduler = lr.poly { base_lr = 0.1, max_update = 15, warmup_steps = 4 } },
}

for _, name in ipairs { 'sgd', 'adam', 'test' } do
  describe('optim.' .. name, function()
    for title, settings in pairs(SETTINGS) do
      for _, how in ipairs { 'dense', 'lazy', 'full' } do
        it(('follows its formula for 20 steps, %s, %s'):format(title, how), function()
          compare(name, settings, how, 'float32', 1e-5)
          compare(name, settings, how, 'float64', 1e-12)
        end)
      end
    end
    it('agrees between lazy and full updates when all rows are present', function()
      local results = {}
      for i, lazy in ipairs { true, false } do
        local store = neap.kv.create()
        store:set_optimizer(optim.create(name, { lazy_update = lazy, wd = 0.1 }))
        store:init(1, nd.ones({ 2, 2 }))
        for _ = 1, 3 do
          store:push(1, nd.sparse.row_sparse(nd.array { { 1, 2 }, { 3, 4 } }, { 0, 1 }, { 2, 2 }))
        end
        local out = nd.zeros({ 2, 2 })
        store:pull(1, out)
        results[i] = out:totable()
      end
      assert.same(results[1], results[2])
    end)
  end)
end

describe('optim.sgd', function()
  it('follows its formula with momentum', function()
    for _, how in ipairs { 'dense', 'lazy', 'full' } do
      compare('sgd', { momentum = 0.9, wd = 0.01 }, how, 'float32', 1e-5)
    end
  end)
  it('keeps no state without momentum', function()
    local store, o = neap.kv.create(), optim.sgd {}
    store:set_optimizer(o)
    store:init('w', nd.zeros(4))
    store:push('w', nd.ones(4))
    assert.is_nil((o:states())())
    store:set_hyper { momentum = 0.5 }
    store:push('w', nd.ones(4))
    local key, state = o:states()()
    assert.same({ 'w', 'mom' }, { key, state })
  end)
end)

describe('optim.adam', function()
  it("takes a first step of the rate times the gradient's sign", function()
    local store, out = neap.kv.create(), nd.zeros(4)
    store:set_optimizer(optim.adam { learning_rate = 0.25 })
    store:init('w', out)
    store:push('w', nd.array { 3, -0.01, 1e4, -7 })
    store:pull('w', out)
    for i, sign in ipairs { 1, -1, 1, -1 } do
      assert.is_true(math.abs(out:totable()[i] + sign * 0.25) < 1e-5)
    end
  end)
end)

describe('an optimizer', function()
  it('keeps a float32 master of 16-bit weights with multi_precision', function()
    for _, dtype in ipairs { 'float16', 'bfloat16' } do
      local reached = {}
      for _, master in ipairs { true, false } do
        local store, out = neap.kv.create(), nd.zeros({ 1 }, { dtype = dtype })
        store:set_optimizer(optim.sgd { learning_rate = 2 ^ -13, multi_precision = master })
        store:init('w', nd.ones({ 1 }, { dtype = dtype }))
        for _ = 1, 2 ^ 10 do store:push('w', nd.full({ 1 }, -1, { dtype = dtype })) end
        store:pull('w', out)
        reached[master] = out:item()
      end
      assert.equal(1.125, reached[true])
      assert.equal(1, reached[false]) -- each step is lost in rounding
    end
  end)

  it('is recorded once, whatever numbers change', function()
    local store, out = neap.kv.create(), nd.zeros(3)
    store:set_optimizer(optim.adam { clip_gradient = 1, wd = 0.1 })
    store:init('w', out)
    local before = optim.recordings()
    for i = 1, 10 do
      store:set_learning_rate(1 / i)
      store:set_hyper { beta1 = 0.9 - i / 100, wd = i, rescale_grad = i, clip_gradient = i }
      store:push('w', nd.ones(3))
    end
    assert.equal(before + 1, optim.recordings())
    store:set_hyper { clip_gradient = false }
    store:push('w', nd.ones(3))
    assert.equal(before + 2, optim.recordings())
    for i = 1, 5 do -- other keys and shapes: the same record
      store:init('k' .. i, nd.zeros({ i, 2 }))
      store:push('k' .. i, nd.ones({ i, 2 }))
    end
    assert.equal(before + 2, optim.recordings())
  end)

  it('starts counting where begin_num_update says', function()
    local store, out = neap.kv.create(), nd.zeros(1)
    store:set_optimizer(optim.load([[
      return { name = 'count', update = function(w, g, s, p) return w + p.t end }
    ]], { begin_num_update = 100 }))
    store:init('w', out)
    store:push('w', out)
    store:pull('w', out)
    assert.equal(101, out:item())
  end)

  it('refuses settings that it does not have, and says which it has', function()
    for _, case in ipairs {
      { { momentun = 0.9 }, 'momentun', 'momentum', 'clip_gradient', 'lr_scheduler' },
      { { momentum = '0.9' }, 'momentum is a number', '"0.9"' },
      { { clip_gradient = -1 }, 'clip_gradient is false or above 0' },
      { { lazy_update = 1 }, 'lazy_update is a boolean' },
      { { learning_rate = 0 / 0 }, 'learning_rate' },
      { { lr_mult = 3 }, 'lr_mult is a table' },
      { { lr_mult = { w = 'x' } }, 'lr_mult' },
      { { lr_scheduler = 0.1 }, 'neap.lr_scheduler' },
      { { begin_num_update = -1 }, 'begin_num_update' },
      { 0.1, 'a table of settings' },
    } do
      local ok, message = pcall(optim.sgd, case[1])
      assert.is_false(ok)
      for i = 2, #case do assert.is_truthy(message:find(case[i], 1, true), message) end
    end
    local o = optim.sgd { momentum = 0.5 }
    assert.has_error(function() o:set { momentum = 0.9, nonsense = 1 } end)
    assert.equal(0.5, o:get 'momentum') -- nothing was changed
    assert.has_error(function() return optim.no_such_rule end)
    assert.has_error(function() optim.create('../optim/sgd') end)
    assert.has_error(function() optim.create(3) end)
  end)

  it('updates one store at a time', function()
    local one, two, o = neap.kv.create(), neap.kv.create(), optim.sgd {}
    one:set_optimizer(o)
    local ok, message = pcall(two.set_optimizer, two, o)
    assert.is_false(ok)
    assert.is_truthy(message:find('another store', 1, true))
    one:close()
    two:set_optimizer(o)
  end)

  it('comes back from its dump', function()
    local o = optim.adam { beta1 = 0.8, wd = 0.1, clip_gradient = 2, lr_mult = { w = 0.5, [7] = 2 },
      lr_scheduler = lr.multi_factor { steps = { 2, 5 }, factor = 0.5, base_lr = 0.3 } }
    local text = o:dump()
    local copy = optim.undump(text)
    assert.equal(text, copy:dump())
    assert.same({ o.name, o.hash, o:settings() }, { copy.name, copy.hash, copy:settings() })
    for cut = 0, #text - 1, 7 do assert.has_error(function() optim.undump(text:sub(1, cut)) end) end
  end)
end)

-- ---- Schedules ------------------------------------------------------------------------------

--- What the program of a schedule gives at update t, by way of an optimizer that moves by it.
local function by_program(schedule, count)
  local store, out, rates, last = neap.kv.create(), nd.zeros({ 1 }, { dtype = 'float64' }), {}, 0
  store:set_optimizer(optim.sgd { lr_scheduler = schedule })
  store:init('w', out)
  for t = 1, count do
    store:push('w', nd.full({ 1 }, -1, { dtype = 'float64' }))
    store:pull('w', out)
    rates[t] = out:item() - last
    last = out:item()
  end
  return rates
end

local function check(schedule, expected)
  local rates = by_program(schedule, #expected)
  for t, value in ipairs(expected) do
    assert.is_true(math.abs(schedule(t) - value) < 1e-12, ('%d: %.17g'):format(t, schedule(t)))
    assert.is_true(math.abs(rates[t] - value) < 1e-12, ('program, %d: %.17g'):format(t, rates[t]))
  end
end

describe('lr_scheduler', function()
  it('factor multiplies at n > k * step, and stops', function()
    check(lr.factor { step = 2, factor = 0.5, base_lr = 1, stop = 0.2 },
      { 1, 1, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2, 0.2 })
  end)
  it('multi_factor multiplies at n > steps[k]', function()
    check(lr.multi_factor { steps = { 1, 4 }, factor = 0.1, base_lr = 1 },
      { 1, 0.1, 0.1, 0.1, 0.01, 0.01 })
  end)
  it('poly goes to final_lr by a power', function()
    check(lr.poly { max_update = 4, base_lr = 1, final_lr = 0.2 },
      { 0.2 + 0.8 * 0.5625, 0.2 + 0.8 * 0.25, 0.2 + 0.8 * 0.0625, 0.2, 0.2, 0.2 })
    check(lr.poly { max_update = 4, base_lr = 1, power = 1 }, { 0.75, 0.5, 0.25, 0, 0 })
  end)
  it('cosine goes to final_lr by half a wave', function()
    check(lr.cosine { max_update = 4, base_lr = 2, final_lr = 1 },
      { 1.5 + 0.5 * math.sqrt(0.5), 1.5, 1.5 - 0.5 * math.sqrt(0.5), 1, 1 })
  end)
  it('warms up, linearly or constantly', function()
    check(lr.poly { max_update = 6, base_lr = 1, power = 1, warmup_steps = 4,
      warmup_begin_lr = 0.2 }, { 0.4, 0.6, 0.8, 1, 0.5, 0, 0 })
    check(lr.factor { step = 5, factor = 0.5, base_lr = 1, warmup_steps = 3, warmup_begin_lr = 0.1,
      warmup_mode = 'constant' }, { 0.1, 0.1, 1, 1, 1, 0.5 })
    check(lr.multi_factor { steps = { 3 }, factor = 0.5, base_lr = 1, warmup_steps = 2 },
      { 0.5, 1, 1, 0.5 })
    check(lr.cosine { max_update = 6, base_lr = 1, warmup_steps = 2 },
      { 0.5, 1, 0.5 + math.sqrt(0.5) / 2, 0.5 })
  end)
  it("starts from the optimizer's learning_rate where that is given", function()
    local store, out = neap.kv.create(), nd.zeros(1)
    store:set_optimizer(optim.sgd { learning_rate = 4,
      lr_scheduler = lr.factor { step = 1, factor = 0.5, base_lr = 1 } })
    store:init('w', out)
    store:push('w', nd.full(1, -1))
    store:push('w', nd.full(1, -1))
    store:set_learning_rate(100)
    store:push('w', nd.full(1, -1))
    store:pull('w', out)
    assert.equal(4 + 2 + 25, out:item())
  end)
  it('takes schedules of the user', function()
    check(lr.load([[
return {
  name = 'saw',
  defaults = { period = 3 },
  rate = function(t, p)
    return p.base_lr * (t - floor(t / p.period) * p.period)
  end,
}]], { base_lr = 0.5 }), { 0.5, 1, 0, 0.5, 1, 0 })
  end)
  it('refuses what makes no sense', function()
    for _, case in ipairs {
      { 'factor', {}, 'step' }, { 'factor', { step = 3, factor = 2 }, 'at most 1' },
      { 'multi_factor', {}, 'steps' }, { 'multi_factor', { steps = { 3, 2 } }, 'ascending' },
      { 'poly', {}, 'max_update' },
      { 'cosine', { max_update = 3, warmup_steps = 3 }, 'max_update' },
      { 'poly', { max_update = 3, warmup_mode = 'x' }, "'linear' or 'constant'" },
      { 'poly', { max_update = 3, warmup_steps = 1.5 }, 'warmup_steps' },
      { 'poly', { max_updates = 3 }, 'there is no setting' },
    } do
      local ok, message = pcall(lr[case[1]], case[2])
      assert.is_false(ok)
      assert.is_truthy(message:find(case[3], 1, true), message)
    end
    assert.has_error(function() return lr.linear end)
  end)
end)
