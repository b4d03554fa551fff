-- SPDX-License-Identifier: MIT
-- Every optimizer against its formula (optim_formulas.lua), step by step for 20 steps: each way
-- of using it with each kind of gradient, weight and setting.

local neap = require 'neap'
local nd, optim, lr = neap.nd, neap.optim, neap.lr_scheduler

local FORMULAS = dofile(debug.getinfo(1, 'S').source:match('^@(.*/)') .. 'optim_formulas.lua')

local ROWS, COLUMNS, STEPS = 5, 3, 20

-- ---- What is tried ---------------------------------------------------------------------------

-- Each optimizer, and its settings beside the defaults where these change what it computes.
local USES = {
  { 'test' },
  { 'sgd' }, { 'sgd', { momentum = 0.9 } },
  { 'nag' }, { 'nag', { momentum = 0 } },
  -- With 0.9 a sum of these gradients is exactly 0, where the sign is up to rounding.
  { 'signum', { momentum = 0.87, wd_lh = 0.01 } }, { 'signum', { momentum = 0, wd_lh = 0.01 } },
  { 'sgld' },
  { 'dcasgd' }, { 'dcasgd', { momentum = 0.5 } },
  { 'adam' }, { 'adam', { beta1 = 0.5, beta2 = 0.9, epsilon = 0.01 } },
  { 'adamw' }, { 'adamw', { correct_bias = false } },
  { 'adabelief' }, { 'adamax' }, { 'nadam' },
  { 'adagrad' }, { 'group_adagrad' }, { 'adadelta' },
  { 'rmsprop' }, { 'rmsprop', { centered = true } }, { 'rmsprop', { clip_weights = 1.2 } },
  { 'ftrl' }, { 'ftml' },
  { 'lamb' }, { 'lamb', { bias_correction = false, lower_bound = 9 } },
  { 'lamb', { upper_bound = 0.5 } },
  { 'lans' }, { 'lans', { lower_bound = 9, upper_bound = 10 } },
  { 'lars' }, { 'lars', { momentum = 0.9 } },
}

-- Those that leave rows alone that are not in a row-sparse gradient.
local LAZY = { sgd = true, adam = true, adagrad = true, group_adagrad = true, ftrl = true,
  lars = true, test = true }

-- base_lr * t / 4, then from base_lr to final_lr by t = 15 (a power of 2), final_lr from there.
local function scheduled_rate(t)
  if t < 4 then return 0.1 * t / 4 end
  return 0.02 + 0.08 * (1 - (math.min(t, 15) - 4) / 11) ^ 2
end
local function schedule()
  return lr.poly { base_lr = 0.1, final_lr = 0.02, max_update = 15, warmup_steps = 4 }
end

-- Settings that all have, as a function of nothing: a schedule serves one optimizer.
local SETTINGS = {
  ['as it comes'] = function() return {} end,
  ['decay, clipping, rescaling'] = function()
    return { wd = 0.03, clip_gradient = 0.3, rescale_grad = 0.75 }
  end,
  ['schedule, multipliers'] = function()
    return { wd = 0.06, lr_mult = { w = 0.5 }, wd_mult = { w = 0.25 }, lr_scheduler = schedule() }
  end,
}

-- How gradients come and what weights are, with the relative error allowed.
local WAYS = {
  { how = 'dense', dtype = 'float64', tolerance = 1e-12 },
  { how = 'dense', dtype = 'float32', tolerance = 1e-5 },
  { how = 'dense', dtype = 'float32', tolerance = 1e-5, title = 'weights of 0', factor = 0 },
  { how = 'dense', dtype = 'float16', tolerance = 1e-5, master = true },
  { how = 'dense', dtype = 'bfloat16', tolerance = 1e-5, master = true },
  { how = 'full', dtype = 'float64', tolerance = 1e-12 }, -- row-sparse; all rows are updated
  { how = 'full', dtype = 'float32', tolerance = 1e-5 },
  { how = 'full', dtype = 'float16', tolerance = 1e-5, master = true },
  { how = 'lazy', dtype = 'float64', tolerance = 1e-12 }, -- row-sparse; absent rows untouched
  { how = 'lazy', dtype = 'float32', tolerance = 1e-5 },
  { how = 'lazy', dtype = 'bfloat16', tolerance = 1e-5, master = true },
}

-- ---- Gradients and weights, exact in every dtype -----------------------------------------------

--- A multiple of 1/128 in [-1, 1], different for each step, row and column.
local function gradient_at(t, r, c)
  return ((t * 7919 + r * 104729 + c * 1299709) % 257 - 128) / 128
end
local function weight_at(r, c) return 0.5 + ((r - 1) * COLUMNS + c) / 16 end -- times way.factor
local function present(t, r) return (t * 3 + r) % 4 < 2 end

-- ---- By formula --------------------------------------------------------------------------------

local function draws(dtype)
  local store, out = neap.kv.create(), nd.zeros({ ROWS, COLUMNS }, { dtype = dtype })
  store:set_optimizer(optim.load [[
    return { name = 'draw', update = function() return normal() end }]])
  store:init('w', out)
  local list = {}
  for t = 1, STEPS do
    store:push('w', out)
    store:pull('w', out)
    list[t] = out:totable()
  end
  return list
end

local function start_world(factor)
  local world = { w = {}, s = {} }
  for r = 1, ROWS do
    world.w[r], world.s[r] = {}, {}
    for c = 1, COLUMNS do world.w[r][c], world.s[r][c] = weight_at(r, c) * factor, {} end
  end
  return world
end

--- One step of all elements of the rows `touched`; `g` the whole gradient.
local function step(world, formula, p, t, touched, g, draw)
  local w, s = world.w, world.s
  local new, afterwards = {}, {}
  local function whole(f)
    local sum = 0
    for r = 1, ROWS do
      for c = 1, touched[r] and COLUMNS or 0 do sum = sum + f(w[r][c], g[r][c], s[r][c]) ^ 2 end
    end
    return math.sqrt(sum)
  end
  for r = 1, ROWS do
    new[r] = touched[r] and {} or w[r]
    local function row(f)
      local sum = 0
      for c = 1, COLUMNS do sum = sum + f(w[r][c], g[r][c], s[r][c]) end
      return sum / COLUMNS
    end
    for c = 1, touched[r] and COLUMNS or 0 do
      local later
      new[r][c], later = formula(w[r][c], g[r][c], s[r][c], p, t, whole, row, draw[t][r][c])
      afterwards[#afterwards + 1] = later
    end
  end
  for _, f in ipairs(afterwards) do f() end
  world.w = new
end

-- ---- By script ---------------------------------------------------------------------------------

local function push(store, way, t)
  local dtype, rows, ids = { dtype = way.dtype }, {}, {}
  local touched, g = {}, {}
  for r = 1, ROWS do
    local here = way.how == 'dense' or present(t, r)
    g[r], touched[r] = {}, here or way.how == 'full'
    for c = 1, COLUMNS do g[r][c] = here and gradient_at(t, r, c) or 0 end
    if here then rows[#rows + 1], ids[#ids + 1] = g[r], r - 1 end
  end
  if way.how == 'dense' then
    store:push('w', nd.array(g, dtype))
  else
    store:push('w', nd.sparse.row_sparse(nd.array(rows, dtype), ids, { ROWS, COLUMNS }, dtype))
  end
  return touched, g
end

local function master_of(o)
  for _, name, handle in o:states() do
    local value = require('neap.array').adopt(handle, 0)
    if name == 'weight32' then return value end
  end
end

local function agree(expected, got, tolerance, t)
  local rows = got:totable()
  for r = 1, ROWS do
    for c = 1, COLUMNS do
      local e, x = expected[r][c], rows[r][c]
      -- Near 0, where steps have cancelled each other, against the size of weights and steps.
      local error = math.abs(x - e) / math.max(math.abs(e), 0.1)
      assert.is_true(error <= tolerance, -- not so for NaN
        ('step %d, element %d,%d: %.9g is not %.9g'):format(t, r, c, x, e))
    end
  end
end

local function follows(name, settings, way, draw)
  local o = optim.create(name, settings)
  local p = o:settings()
  local store = neap.kv.create()
  local world = start_world(way.factor or 1)
  store:init('w', nd.array(world.w, { dtype = way.dtype }))
  store:set_optimizer(o)
  local out = nd.zeros({ ROWS, COLUMNS }, { dtype = way.dtype })
  local base, wd = p.learning_rate, p.wd * (settings.wd_mult and settings.wd_mult.w or 1)
  for t = 1, STEPS do
    local touched, g = push(store, way, t)
    local rate = settings.lr_scheduler and scheduled_rate(t) or base
    p.learning_rate = rate * (settings.lr_mult and settings.lr_mult.w or 1)
    p.wd = wd
    step(world, FORMULAS[name], p, t, touched, g, draw)
    store:pull('w', out)
    if way.master then
      local master = master_of(o)
      assert.equal('float32', master.dtype)
      agree(world.w, master, way.tolerance, t)
      assert.same(master:astype(way.dtype):totable(), out:totable()) -- the weight: it, rounded
    else
      agree(world.w, out, way.tolerance, t)
    end
  end
  store:close()
end

local function title_of(name, own)
  local parts = {}
  for key, value in pairs(own or {}) do parts[#parts + 1] = ('%s %s'):format(key, value) end
  table.sort(parts)
  return name .. (#parts > 0 and ' with ' .. table.concat(parts, ', ') or '')
end

local drawn = {} -- by dtype that elements are computed in
local function draws_for(way)
  local dtype = way.dtype == 'float64' and 'float64' or 'float32'
  drawn[dtype] = drawn[dtype] or draws(dtype)
  return drawn[dtype]
end

setup(function() neap.seed(11) end) -- of what sgld draws

for _, use in ipairs(USES) do
  local name, own = use[1], use[2]
  describe(title_of(name, own) .. ' follows its formula:', function()
    for title, make in pairs(SETTINGS) do
      for _, way in ipairs(WAYS) do
        if way.how ~= 'lazy' or LAZY[name] then
          it(('%s, %s, %s'):format(title, way.title or way.how, way.dtype), function()
            local settings = make()
            for k, v in pairs(own or {}) do settings[k] = v end
            if name == 'group_adagrad' then settings.wd = nil end -- it has none
            if way.how == 'full' then settings.lazy_update = false end
            settings.multi_precision = way.master
            follows(name, settings, way, draws_for(way))
          end)
        end
      end
    end
  end)
end

it('every optimizer there is has been tried', function()
  local tried = {}
  for _, use in ipairs(USES) do tried[use[1]] = true end
  local root = debug.getinfo(1, 'S').source:match('^@(.*)spec/lua/')
  local pipe = io.popen(('cd "%s" && ls lua/optim/*.lua'):format(root ~= '' and root or '.'))
  local count = 0
  for path in pipe:lines() do
    local name = path:match('([%w_]+)%.lua$')
    assert.is_true(tried[name], name)
    assert.equal(LAZY[name] or false, optim.create(name):get 'lazy_update', name)
    count = count + 1
  end
  pipe:close()
  assert.equal(20, count)
end)
