-- SPDX-License-Identifier: MIT
-- What all optimizers have in common: settings, recordings, dumps; and schedules against their
-- formulas. The rules themselves: optim_reference_spec.lua, optim_identities_spec.lua.

local support = dofile(debug.getinfo(1, 'S').source:match('^@(.*/)') .. 'support.lua')
local neap = require 'neap'
local nd, optim, lr = neap.nd, neap.optim, neap.lr_scheduler

describe('optim.sgd', function()
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
    assert.has_error(function() optim.create(3) end)
  end)

  it('that does not exist is refused with a list of those that do', function()
    for _, make in ipairs {
      function() optim.create('addam') end,
      function() optim.addam {} end,
      function() optim.create('../optim/sgd') end,
      function() optim.create('schedules/poly') end,
    } do
      support.raises(make, 'there is no optimizer', 'there are adabelief, adadelta, adagrad, ',
        ', sgd, sgld, signum, test')
    end
    support.raises(function() lr.create('linear') end, 'there is no schedule "linear"',
      'there are cosine, factor, multi_factor, poly')
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
